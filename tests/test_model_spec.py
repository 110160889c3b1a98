"""Load options are checked once, at the border, and survive a trip through JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields

import pytest

from zerocon.errors import SettingError
from zerocon.model import ModelSpec
from zerocon.model.spec import LOAD_OPTIONS
from zerocon.settings import DEFAULT_MODEL


def test_every_field_but_the_name_is_a_load_option_and_has_a_default() -> None:
    assert set(LOAD_OPTIONS) == {field.name for field in fields(ModelSpec)} - {"name"}
    assert ModelSpec.of("mini") == ModelSpec("mini")
    assert ModelSpec.of("mini", device=None, tile=None) == ModelSpec("mini")


def test_the_name_comes_from_the_argument_then_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert ModelSpec.of().name == DEFAULT_MODEL
    monkeypatch.setenv("ZEROCON_MODEL", "mini")
    assert ModelSpec.of().name == "mini" and ModelSpec.of("a/b").name == "a/b"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float12"}, 'no dtype "float12"; there are: float32, float16, bfloat16'),
        ({"prediction": "flow"}, 'no prediction "flow"; there are: epsilon, v_prediction'),
        ({"tile": "yes"}, "tile must be true or false, not 'yes'"),
        ({"device": 0}, "device must be text, not 0"),
        ({"tiles": True}, 'no load option "tiles"; there are: device, dtype, '),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError) as caught:
        ModelSpec.of("mini", **options)
    assert message in str(caught.value)


def test_json_holds_what_differs_from_the_defaults() -> None:
    spec = ModelSpec.of("mini", dtype="bfloat16", tile=True, offload=False)
    assert spec.to_json() == {"name": "mini", "dtype": "bfloat16", "tile": True}
    assert ModelSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    with pytest.raises(SettingError, match="needs a name"):
        ModelSpec.from_json({"tile": True})


@pytest.mark.parametrize("module", ["zerocon.model", "zerocon.model.spec", "zerocon.model.hub"])
def test_these_modules_start_without_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
