"""Short captions of a part of a scene, with the facts that make them true."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from zerocon.world import VALUES

Facts = frozenset[str]  # "thing=fox", "place=snow", ...: true of a scene, or required

_OBJECTS = (*VALUES["kind"], *VALUES["companion"], *VALUES["accessory"])
THINGS = tuple(word for word in dict.fromkeys(_OBJECTS) if word != "none")
# facts that a single word can express, by parameter
SINGLE: dict[str, tuple[str, ...]] = {"thing": tuple(f"thing={word}" for word in THINGS)} | {
    name: tuple(f"{name}={word}" for word in VALUES[name])
    for name in ("color", "place", "time", "style")
}

_PLACES = {"beach": "on the beach", "sea": "at sea", "room": "in a room"}
_TIMES = {
    "day": "during the day",
    "night": "at night",
    "sunset": "at sunset",
    "rain": "in the rain",
}


def facts(truth: Mapping[str, str]) -> Facts:
    """All facts of the scene with this truth that a fragment may require."""
    pairs = {f"{name}={word}" for name, word in truth.items()}
    pairs |= {f"thing={truth[name]}" for name in ("kind", "companion", "accessory")}
    return frozenset(pairs)


def fragment(truth: Mapping[str, str], rng: np.random.Generator) -> tuple[str, Facts]:
    """A random fragment that is true of the scene, and the facts that it requires."""
    choices = [_thing, _thing, _thing, _colored, _placed, _place, _timed, _styled, _color]
    if truth["accessory"] != "none":
        choices += [_wearing, _accessory]
    if truth["companion"] != "none":
        choices += [_with_companion, _companion]
    return choices[int(rng.integers(len(choices)))](truth, rng)


def name_fact(fact: str, rng: np.random.Generator) -> str:
    """A fragment for one fact, such as "a fox" for "thing=fox"."""
    name, _, word = fact.partition("=")
    if name == "thing":
        return word if word == "sunglasses" else _named(word, rng)
    alone = {"color": _color, "place": _place, "time": _time, "style": _style}
    return alone[name]({name: word}, rng)[0]


def _thing(truth: Mapping[str, str], rng: np.random.Generator) -> tuple[str, Facts]:
    return _named(truth["kind"], rng), frozenset({f"thing={truth['kind']}"})


def _companion(truth: Mapping[str, str], rng: np.random.Generator) -> tuple[str, Facts]:
    return _named(truth["companion"], rng), frozenset({f"thing={truth['companion']}"})


def _accessory(truth: Mapping[str, str], rng: np.random.Generator) -> tuple[str, Facts]:
    word = truth["accessory"]
    text = word if word == "sunglasses" else _named(word, rng)
    return text, frozenset({f"thing={word}"})


def _colored(truth: Mapping[str, str], rng: np.random.Generator) -> tuple[str, Facts]:
    return _named(f"{truth['color']} {truth['kind']}", rng), _required(truth, "color", "kind")


def _color(truth: Mapping[str, str], rng: np.random.Generator) -> tuple[str, Facts]:
    return truth["color"], _required(truth, "color")


def _placed(truth: Mapping[str, str], rng: np.random.Generator) -> tuple[str, Facts]:
    subject = f"{_named(truth['kind'], rng)} {_where(truth['place'], rng)}"
    return subject, _required(truth, "kind", "place")


def _place(truth: Mapping[str, str], rng: np.random.Generator) -> tuple[str, Facts]:
    word = truth["place"]
    texts = (word, f"the {word}", f"a {word}", _where(word, rng))
    return texts[int(rng.integers(len(texts)))], _required(truth, "place")


def _timed(truth: Mapping[str, str], rng: np.random.Generator) -> tuple[str, Facts]:
    if rng.random() < 0.6:
        return _time(truth, rng)
    text = f"{_named(truth['kind'], rng)} {_TIMES[truth['time']]}"
    return text, _required(truth, "kind", "time")


def _time(truth: Mapping[str, str], rng: np.random.Generator) -> tuple[str, Facts]:
    word = truth["time"]
    return (_TIMES[word] if rng.random() < 0.6 else word), _required(truth, "time")


def _styled(truth: Mapping[str, str], rng: np.random.Generator) -> tuple[str, Facts]:
    if rng.random() < 0.5:
        return _style(truth, rng)
    style = truth["style"] if truth["style"] == "pixel art" else f"a {truth['style']}"
    return f"{style} of {_named(truth['kind'], rng)}", _required(truth, "style", "kind")


def _style(truth: Mapping[str, str], rng: np.random.Generator) -> tuple[str, Facts]:
    bare = truth["style"] == "pixel art" or rng.random() < 0.5
    return (truth["style"] if bare else f"a {truth['style']}"), _required(truth, "style")


def _wearing(truth: Mapping[str, str], rng: np.random.Generator) -> tuple[str, Facts]:
    worn = truth["accessory"] if truth["accessory"] == "sunglasses" else f"a {truth['accessory']}"
    if rng.random() < 0.3:
        return f"wearing {worn}", _required(truth, "accessory")
    return f"{_named(truth['kind'], rng)} wearing {worn}", _required(truth, "kind", "accessory")


def _with_companion(truth: Mapping[str, str], rng: np.random.Generator) -> tuple[str, Facts]:
    near = "with" if rng.random() < 0.4 else "next to"
    text = f"{_named(truth['kind'], rng)} {near} a {truth['companion']}"
    return text, _required(truth, "kind", "companion")


def _required(truth: Mapping[str, str], *names: str) -> Facts:
    return frozenset(f"{name}={truth[name]}" for name in names)


def _named(words: str, rng: np.random.Generator) -> str:
    a = "an" if words[0] in "aeiou" else "a"
    return f"{(a, a, a, 'the', '')[int(rng.integers(5))]} {words}".strip()


def _where(place: str, rng: np.random.Generator) -> str:
    usual = _PLACES.get(place, f"in the {place}")
    return usual if rng.random() < 0.7 else f"in a {place}"
