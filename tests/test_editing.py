import math
from dataclasses import replace

import pytest
import tiny
import torch
from gaussian import GaussianWorld

from zerocon import editing
from zerocon.activations import Observer
from zerocon.diffusion import CLEAN, ddim_coefficients, ddim_step
from zerocon.editing import GuidedDenoiser, Plan, edit, limit_norm, limit_to_polyak_step, threshold
from zerocon.errors import NotFiniteError
from zerocon.evaluation_count import BACKWARD, count_evaluations
from zerocon.guidance import Contrastive, CrossAttention
from zerocon.sampling import scale_at
from zerocon.settings import Settings
from zerocon.trajectory import recompute_observations

BOTH = (CrossAttention(0.1), Contrastive(5.0))


@pytest.fixture(scope="module")
def model():
    return tiny.model()


def make_plan(guidance_scale=5.0, guidance=(), seeds=(0,), limits=None, **settings):
    """A plan with guidance objects, other settings by name; ``limits`` of the images' gradients."""
    plan = tiny.plan(guidance_scale, guidance, seeds, **settings)
    each = zip(plan.images, limits or (math.inf,) * len(seeds), strict=True)
    images = tuple(replace(image, guidance_limit=limit) for image, limit in each)
    return replace(plan, images=images)


vary = tiny.vary


def invert(model, x, c, steps=6, layer_patterns=frozenset()):
    return tiny.invert(model, x, c, layer_patterns, steps)


def run(model, x, c, edited, plan, steps=6):
    inversion = invert(model, x, c, steps, plan.cached_layers(steps))
    *_, out = edit(model, inversion, c, edited, plan)
    return out.latents


@pytest.mark.parametrize("guidance", [(), (CrossAttention(0.1),), (Contrastive(5.0),), BOTH])
def test_a_direction_of_zero_returns_the_source(model, guidance):
    x, c = torch.randn(2, 4, 8, 6), model.embed(["a cat", "the red bus"])
    again = run(model, x, c, c, make_plan(5.0, guidance, cache_source=False, seeds=(0, 1)))
    assert torch.equal(again, x)
    cached = run(model, x, c, c, make_plan(5.0, guidance, seeds=(0, 1)))
    assert (cached - x).abs().max() < 1e-4


def test_hard_targets_change_the_image_even_for_a_direction_of_zero(model):
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    hard = make_plan(5.0, (Contrastive(5.0, targets="hard"),), cache_source=False)
    assert (run(model, x, c, c, hard) - x).abs().max() > 1e-3


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_the_difference_form_is_exact_at_any_number_of_steps_and_plain_ddim_is_not(model, steps):
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    assert torch.equal(run(model, x, c, c, make_plan(5.0, cache_source=False), steps), x)
    inversion = invert(model, x, c, steps)
    plain, levels = inversion.latents[-1], inversion.schedule.levels
    for level in range(steps, 0, -1):
        eps = model.eps(plain, inversion.schedule.times[level], c)
        plain = ddim_step(plain, eps, levels[level], levels[level - 1])
    assert (plain - x).abs().max() > 1e-4


def test_the_difference_form_is_two_branches_with_direct_inversion():
    """Against the explicit loop: edit step plus the source step's own error, in float64."""
    world = GaussianWorld()
    c, edited = world.say(0.0, 0.0), world.say(1.0, -0.5)
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64)
    inversion = invert(world, x, c, steps=20)
    levels = inversion.schedule.levels
    branch = inversion.latents[-1]
    for level in range(20, 0, -1):
        here, there = levels[level], levels[level - 1]
        eps = world.eps(branch, here.time, edited)
        source = ddim_step(inversion.latents[level], inversion.eps[level], here, there)
        error = inversion.latents[level - 1] - source
        branch = ddim_step(branch, eps, here, there) + error
        phi, psi = ddim_coefficients(there, here)
        closed = psi / phi * (inversion.eps[level] - inversion.eps[level - 1])
        assert torch.allclose(error, closed, atol=1e-12)
    *_, ours = edit(world, inversion, c, edited, make_plan(1.0))
    assert torch.allclose(ours.latents, branch, atol=1e-10)


def test_an_edit_moves_the_mean_of_a_gaussian_by_the_direction():
    world = GaussianWorld()
    c, edited = world.say(0.0, 0.0), world.say(1.0, -0.5)
    x = torch.randn(1, 2, 8, 8, dtype=torch.float64) * 0.5
    *_, out = edit(world, invert(world, x, c, steps=200), c, edited, make_plan(1.0))
    moved = (out.latents - x).mean((0, 2, 3))
    assert torch.allclose(moved, torch.tensor([1.0, -0.5], dtype=torch.float64), atol=0.05)


def test_guidance_changes_the_edit(model):
    x = torch.randn(1, 4, 8, 8)
    c, edited = model.embed(["a cat"]), model.embed(["a dog"])
    free = run(model, x, c, edited, make_plan(5.0))
    for guidance in (CrossAttention(3.0), Contrastive(3000.0)):
        held = run(model, x, c, edited, make_plan(5.0, (guidance,)))
        assert not torch.allclose(held, free, atol=1e-5), guidance


def test_a_batch_gives_the_results_of_its_images_alone(model):
    x = torch.randn(3, 4, 8, 6)
    c = model.embed(["a cat", "the bus", "one tree"])
    edited = model.embed(["a dog", "the big bus", "one hut"])
    plan = make_plan(5.0, BOTH, seeds=(3, 1, 4))
    together = model.decode(run(model, x, c, edited, plan))
    for i in range(3):
        one = slice(i, i + 1)
        alone = run(
            model,
            x[one],
            replace(c, tokens=c.tokens[one], ids=c.ids[one]),
            replace(edited, tokens=edited.tokens[one], ids=edited.ids[one]),
            replace(plan, images=plan.images[one]),
        )
        difference = model.decode(alone)[0] - together[i]
        assert difference.abs().max() <= 2 / 127.5  # two gray levels of 255


def test_the_same_seed_gives_the_same_bits(model):
    x = torch.randn(1, 4, 8, 8)
    c, edited = model.embed(["a cat"]), model.embed(["a dog"])
    plan = make_plan(5.0, (Contrastive(50.0, patches=8),), seeds=(5,))
    torch.manual_seed(0)
    first = run(model, x, c, edited, plan)
    torch.manual_seed(1)
    assert torch.equal(first, run(model, x, c, edited, plan))
    assert not torch.equal(
        first, run(model, x, c, edited, make_plan(5.0, plan.guidance, seeds=(6,)))
    )


def test_cached_and_recomputed_source_agree(model):
    x = torch.randn(1, 4, 8, 8)
    c, edited = model.embed(["a cat"]), model.embed(["a big dog"])
    cached = run(model, x, c, edited, make_plan(5.0, BOTH))
    again = run(model, x, c, edited, make_plan(5.0, BOTH, cache_source=False))
    assert torch.allclose(cached, again, atol=1e-3)


def test_recomputed_observations_give_the_same_edit(model):
    x = torch.randn(1, 4, 8, 8)
    c, edited = model.embed(["a cat"]), model.embed(["a dog"])
    plan = make_plan(5.0, BOTH)
    first = run(model, x, c, edited, plan)
    bare = invert(model, x, c)
    with pytest.raises(ValueError, match="has not recorded the layers"):
        next(edit(model, bare, c, edited, plan))
    with count_evaluations() as spent:
        levels = tuple(recompute_observations(Observer(model, c, plan.layer_patterns), bare))
    assert spent.forwards == 6
    whole = replace(bare, observations=levels, layer_patterns=plan.cached_layers(6))
    *_, second = edit(model, whole, c, edited, plan)
    assert torch.allclose(first, second.latents, atol=1e-3)


@pytest.mark.parametrize(
    ("plan", "forwards", "backwards"),
    [
        (make_plan(5.0, BOTH), 51 + 50 + 100, 50),
        (make_plan(5.0), 51 + 100, 0),
        (make_plan(5.0, BOTH, guidance_range=(0.0, 0.6)), 51 + 30 + 100, 30),
        (make_plan(5.0, BOTH, cache_source=False), 51 + 100 + 150, 100),
    ],
)
def test_the_cost_of_fifty_steps(model, plan, forwards, backwards):
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    with count_evaluations() as spent:
        run(model, x, c, model.embed(["a dog"]), plan, steps=50)
    assert (spent.forwards, spent.backwards) == (forwards, backwards)
    assert spent.total == pytest.approx(forwards + BACKWARD * backwards)
    if plan.guidance and plan.settings.cache_source:
        assert spent.total <= 260


@pytest.mark.parametrize(
    ("plan", "forwards", "backwards"),
    [
        (make_plan(5.0, BOTH, reuse_prediction=True), 51 + 50 + 50, 50),
        (
            make_plan(5.0, BOTH, reuse_prediction=True, guidance_range=(0.0, 0.5)),
            51 + 25 + 25 + 50,
            25,
        ),
        (make_plan(5.0, BOTH, guidance_prompt="both"), 51 + 100 + 100, 100),
        (make_plan(5.0, BOTH, guidance_balance=1.0), 51 + 50 + 100 + 1, 50 + 2),
    ],
)
def test_the_cost_of_other_settings(model, plan, forwards, backwards):
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    with count_evaluations() as spent:
        run(model, x, c, model.embed(["a dog"]), plan, steps=50)
    assert (spent.forwards, spent.backwards) == (forwards, backwards)


@pytest.mark.parametrize(
    "plan",
    [make_plan(5.0, BOTH, guidance_prompt="source"), make_plan(5.0, BOTH, guidance_prompt="both")],
)
def test_a_direction_of_zero_returns_the_source_with_any_guidance_prompt(model, plan):
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    assert torch.equal(run(model, x, c, c, vary(plan, cache_source=False)), x)


def test_reused_and_recomputed_prediction_differ_by_the_order_of_the_guidance_step(model):
    """The difference is of the order of the gradient step, so it vanishes with the weight."""
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    edited = model.embed(["a dog"])

    def gap(weight):
        plan = make_plan(1.0, (CrossAttention(weight),))
        return float((run(model, x, c, edited, plan) - run(
            model, x, c, edited, vary(plan, reuse_prediction=True)
        )).norm())  # fmt: skip

    small, large = gap(0.1), gap(1.0)
    assert 0 < small < 0.3 * large


def test_the_gradient_under_the_source_caption_is_zero_at_first_as_in_the_released_code(model):
    """pix2pix-zero compares the maps under the source caption, which are equal at first."""
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    edited, plan = (
        model.embed(["a dog"]),
        make_plan(5.0, (CrossAttention(1.0),), cache_source=False),
    )
    inversion = invert(model, x, c)
    t = inversion.schedule.levels[6]

    def gradient(guidance_prompt):
        varied = vary(plan, guidance_prompt=guidance_prompt)
        network = GuidedDenoiser(model, c, edited, varied, weights=torch.ones(1, 1))
        source = network.source(inversion, 6)
        return network.guide(source.x, t, source, 0.0).gradient

    assert not gradient("source").any()
    assert gradient("target").norm() > 0
    # the mean over both captions halves the loss of each
    assert torch.allclose(gradient("both"), gradient("target") / 2, atol=1e-8)


def test_guidance_balance_sets_the_ratio_of_the_gradients(model):
    x, c = torch.randn(2, 4, 8, 8), model.embed(["a cat", "the bus"])
    edited = model.embed(["a dog", "the hut"])
    plan = make_plan(5.0, BOTH, guidance_balance=0.5, seeds=(0, 1))
    inversion = invert(model, x, c, layer_patterns=plan.layer_patterns)
    network, t = GuidedDenoiser(model, c, edited, plan), inversion.schedule.levels[6]
    source = network.source(inversion, 6)
    weights = network._balance(source.x, t, source)
    assert torch.allclose(weights[0], torch.tensor(0.1))

    def lengths(row):
        alone = torch.zeros_like(weights)
        alone[row] = weights[row]
        network.weights = alone
        return network.guide(source.x, t, source, 0.0).gradient.flatten(1).norm(dim=1)

    assert torch.allclose(lengths(1), 0.5 * lengths(0), rtol=1e-3)


def test_without_source_correction_it_is_plain_ddim(model):
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    edited = model.embed(["a dog"])
    inversion = invert(model, x, c)
    plain, levels = inversion.latents[-1], inversion.schedule.levels
    for level in range(6, 0, -1):
        t = inversion.schedule.times[level]
        with torch.no_grad():
            eps_c, eps_target = model.eps(plain, t, c), model.eps(plain, t, edited)
        eps = eps_c + 3 * (eps_target - eps_c)
        plain = ddim_step(plain, eps, levels[level], levels[level - 1])
    *_, ours = edit(model, inversion, c, edited, make_plan(3.0, source_correction=False))
    assert torch.allclose(ours.latents, plain, atol=1e-3)


def test_the_guidance_scale_may_run_between_two_values(model):
    assert [scale_at((8.0, 4.0), done) for done in (0.0, 0.5, 1.0)] == [8.0, 6.0, 4.0]
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    edited = model.embed(["a dog"])
    level = run(model, x, c, edited, make_plan(5.0))
    assert torch.equal(run(model, x, c, edited, make_plan((5.0, 5.0))), level)
    assert not torch.equal(run(model, x, c, edited, make_plan((5.0, 1.0))), level)


def test_a_step_has_level_latents_difference_and_clean_latents():
    """In the Gaussian world a step's clean guess is the exact posterior mean's difference."""
    world = GaussianWorld()
    c, edited = world.say(0.0, 0.0), world.say(1.0, -0.5)
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64) * 0.5
    inversion = invert(world, x, c, steps=50)
    steps = list(edit(world, inversion, c, edited, make_plan(1.0)))
    assert [step.level for step in steps] == list(range(49, -1, -1))
    for step in steps:
        assert torch.allclose(step.latents - step.difference, inversion.latents[step.level])
    assert torch.allclose(steps[-1].clean, steps[-1].latents, atol=0.01)
    moved = (steps[0].clean - x).mean((0, 2, 3))  # nearly all noise: the captions' means
    assert torch.allclose(moved, torch.tensor([1.0, -0.5], dtype=torch.float64), atol=0.05)
    assert steps[0].losses is None


def test_a_step_has_the_losses_of_each_guidance_and_image(model):
    x, c = torch.randn(2, 4, 8, 8), model.embed(["a cat", "the bus"])
    edited, plan = model.embed(["a dog", "the hut"]), make_plan(5.0, BOTH, seeds=(0, 1))
    inversion = invert(model, x, c, layer_patterns=plan.layer_patterns)
    for step in edit(model, inversion, c, edited, plan):
        assert step.losses.shape == (2, 2) and (step.losses >= 0).all()


def test_guided_steps_are_counted_from_noise():
    plan = make_plan(5.0, BOTH, guidance_range=(0.0, 0.6))
    assert [plan.guides(done / 10) for done in range(10)] == [True] * 6 + [False] * 4
    assert not make_plan(5.0).guides(0.0)


@pytest.mark.parametrize("steps", [5, 10, 50])
def test_all_steps_together_have_the_same_limit_however_many_they_are(steps):
    """Weights and limits are those of a schedule of 50 steps."""
    model = tiny.model()
    c, schedule = model.embed(["a cat"]), model.schedule(steps)
    plan = make_plan(2.0, (CrossAttention(weight=1e6),), limits=(0.01,))
    inversion = invert(model, torch.randn(1, 4, 8, 8), c, steps, plan.layer_patterns)
    network = GuidedDenoiser(model, c, model.embed(["dog"]), plan, 50 / steps)
    source = network.source(inversion, steps)
    x = source.x + 0.1
    gradient = network.guide(x, schedule.levels[steps], source, 0.0).gradient
    assert float(gradient.norm() / x.norm()) * steps == pytest.approx(0.01 * 50, rel=1e-4)


def test_the_limit_shortens_long_gradients_only_and_each_image_by_its_own():
    x = torch.ones(3, 4, 8, 8)
    gradient = torch.stack([torch.full((4, 8, 8), length) for length in (10.0, 10.0, 0.01)])
    short = limit_norm(gradient, x, torch.tensor([0.1, 0.5, 0.1]))
    assert torch.allclose(short[0], torch.full((4, 8, 8), 0.1))
    assert torch.allclose(short[1], torch.full((4, 8, 8), 0.5))
    assert torch.equal(short[2], gradient[2])
    assert torch.equal(limit_norm(gradient, x, torch.tensor(math.inf)), gradient)


def test_each_image_of_a_batch_has_the_limit_of_its_change():
    settings = Settings(guidance_limit="0.01,style=0.05,place=0.03")
    kinds = [{"style"}, {"object"}, {"style", "place"}, set(), {"style", "added"}]
    plan = Plan.of(settings, kinds)
    assert [each.guidance_limit for each in plan.images] == [0.05, 0.01, 0.05, 0.01, 0.05]
    assert Plan.of(Settings(guidance_limit=None)).images[0].guidance_limit == math.inf
    both = Plan.of(Settings(guidance_limit=0.2), [{"style"}, {"object"}])
    assert [each.guidance_limit for each in both.images] == [0.2, 0.2]


def test_a_polyak_step_never_overshoots_a_convex_loss():
    """On ``sum h (x - x*)^2`` with any curvature: after it, x is no further from x* than before."""
    x, goal = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8)
    for curvature in (0.01, 0.4, 3.0, 1e4):
        curvatures = curvature * torch.rand(3, 4, 8, 8)
        losses = (curvatures * (x - goal).square()).flatten(1).sum(1)
        gradient = 2 * curvatures * (x - goal)
        after = x - limit_to_polyak_step(gradient, losses)
        before = (x - goal).flatten(1).norm(dim=1)
        assert ((after - goal).flatten(1).norm(dim=1) <= before).all()
        if curvature <= 0.25:  # its own length is short enough
            assert torch.equal(limit_to_polyak_step(gradient, losses), gradient)


def test_a_polyak_step_of_zero_is_zero():
    zeros = torch.zeros(2, 4, 8, 8)
    assert torch.equal(limit_to_polyak_step(zeros, torch.zeros(2)), zeros)


def test_large_weights_amplify_rounding_without_the_polyak_step(model):
    """Rounding differs between batches of one and two; steps that are too long amplify it."""
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    heavy = (CrossAttention(3000.0),)
    polyak_step = run(model, x, c, c, make_plan(5.0, heavy, polyak_step=True), steps=12)
    assert (polyak_step - x).abs().max() < 1e-4
    oscillating = run(model, x, c, c, make_plan(5.0, heavy), steps=12)
    assert (oscillating - x).abs().max() > 1.0


def test_weights_never_get_gradients(model):
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    run(model, x, c, model.embed(["a dog"]), make_plan(5.0, BOTH))
    for network in (model.unet, model.vae, model.text_encoder):
        assert all(p.grad is None and not p.requires_grad for p in network.parameters())


def test_the_loop_yields_every_step_and_can_be_abandoned(model):
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    inversion = invert(model, x, c)
    assert len(list(edit(model, inversion, c, c, make_plan(5.0)))) == 6
    steps = edit(model, inversion, c, c, make_plan(5.0))
    next(steps)
    steps.close()
    assert torch.is_grad_enabled()


def test_a_half_precision_network_edits_in_float32():
    model = tiny.model()
    model.unet.to(torch.bfloat16)
    x = torch.randn(1, 4, 8, 8)
    c, edited = model.embed(["a cat"]), model.embed(["a dog"])
    inversion = invert(model, x, c, layer_patterns=make_plan(5.0, BOTH).layer_patterns)
    assert next(iter(inversion.observations[1].maps.values())).dtype == torch.bfloat16
    for step in edit(model, inversion, c, edited, make_plan(5.0, BOTH)):
        assert step.latents.dtype == torch.float32 and step.latents.isfinite().all()


# the update rule


def test_every_step_is_a_ddim_step(model, monkeypatch):
    calls = []

    def counting_step(x, eps, a, b):
        calls.append((a, b, ddim_step(x, eps, a, b)))
        return calls[-1][2]

    monkeypatch.setattr(editing, "ddim_step", counting_step)
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    inversion, plan = invert(model, x, c), make_plan(5.0, cache_source=False)
    steps = list(edit(model, inversion, c, model.embed(["a dog"]), plan))
    moves = [call for call in calls if call[1] is not CLEAN]
    levels = inversion.schedule.levels
    assert [(a, b) for a, b, _ in moves] == [(levels[i], levels[i - 1]) for i in range(6, 0, -1)]
    for step, (_, _, moved) in zip(steps, moves, strict=True):
        assert torch.equal(step.difference, moved)
    for step, (_, _, clean) in zip(steps, [c for c in calls if c[1] is CLEAN], strict=True):
        assert torch.equal(step.clean, x + clean)


@pytest.mark.parametrize("guidance", [(), BOTH])
def test_the_difference_stays_exactly_zero_without_a_direction(model, guidance):
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    inversion, plan = invert(model, x, c), make_plan(5.0, guidance, cache_source=False)
    for step in edit(model, inversion, c, c, plan):
        assert not step.difference.any()
        assert torch.equal(step.latents, inversion.latents[step.level])
        assert torch.equal(step.clean, x)


# the constraint


def test_without_a_constraint_the_difference_is_used_as_it_is(model):
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    c_edit, inversion, plan = model.embed(["a dog"]), invert(model, x, c), make_plan()
    plain = edit(model, inversion, c, c_edit, plan)
    constrained = edit(model, inversion, c, c_edit, plan, lambda source, edited, D, level: D)
    for one, other in zip(plain, constrained, strict=True):
        assert one.difference.any() and torch.equal(one.latents, other.latents)


@pytest.mark.parametrize("guidance", [(), BOTH])
def test_a_constraint_may_keep_latents_outside_a_mask_on_the_trajectory(model, guidance):
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    plan, mask = make_plan(5.0, guidance), torch.zeros(8, 8, dtype=torch.bool)
    mask[2:5, 3:7] = True
    inversion = invert(model, x, c, layer_patterns=plan.cached_layers(6))

    def inside(source, edited, D, level):
        return D * mask

    for step in edit(model, inversion, c, model.embed(["a dog"]), plan, inside):
        trajectory = inversion.latents[step.level]
        assert torch.equal(step.latents[..., ~mask], trajectory[..., ~mask])
        assert not torch.equal(step.latents[..., mask], trajectory[..., mask])


def test_a_constraint_gets_both_observations_the_difference_and_its_level(model):
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    c_edit = model.embed(["a dog"])
    plan = make_plan(5.0, BOTH, guidance_range=(0.0, 0.5), seeds=(3,))
    inversion = invert(model, x, c, layer_patterns=plan.cached_layers(6))
    calls = []

    def record(source, edited, D, level):
        calls.append((source, edited, D, level))
        return D / 2

    steps = list(edit(model, inversion, c, c_edit, plan, record))
    assert [level for *_, level in calls] == [5, 4, 3, 2, 1, 0]
    difference = torch.zeros_like(x)  # before the step
    for step, (source, edited, D, level) in zip(steps, calls, strict=True):
        assert torch.equal(source.x, inversion.latents[level + 1])
        assert torch.equal(source.eps, inversion.eps[level + 1])
        assert torch.equal(edited.x, source.x + difference)
        assert (source.ids, edited.ids) == (c.ids, c_edit.ids)
        assert source.seeds == edited.seeds == (3,)
        assert bool(edited.maps) == bool(edited.features) == (level >= 3)  # guided steps
        assert bool(source.maps) == (level >= 3), "recorded where they are needed"
        assert not edited.eps.requires_grad
        assert torch.equal(step.difference, D / 2)
        difference = step.difference


# the push


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("cache_source", [True, False])
def test_the_gradient_is_at_most_its_share_of_the_push(monkeypatch, prediction, cache_source):
    """Each image by its own limit: ``g`` is what is missing from ``D`` in the DDIM step."""
    model, moves = tiny.model(prediction), []

    def recording_step(x, eps, a, b):
        if b is not CLEAN:
            moves.append((x, ddim_coefficients(a, b)[1] * eps))
        return ddim_step(x, eps, a, b)

    monkeypatch.setattr(editing, "ddim_step", recording_step)
    x, c = torch.randn(2, 4, 8, 8), model.embed(["a cat", "the bus"])
    plan = make_plan(5.0, BOTH, seeds=(0, 1), push_limit=0.5, cache_source=cache_source)
    limits = (0.5, 0.001)
    pairs = zip(plan.images, limits, strict=True)
    plan = replace(plan, images=tuple(replace(each, push_limit=limit) for each, limit in pairs))
    inversion = invert(model, x, c, layer_patterns=plan.cached_layers(6))
    before = torch.zeros_like(x)
    for step in edit(model, inversion, c, model.embed(["a dog", "the hut"]), plan):
        remaining, push = moves[-1]
        gradient = (before - remaining).flatten(1).norm(dim=1)
        allowed = torch.tensor(limits) * push.flatten(1).norm(dim=1)
        assert (gradient <= 1.001 * allowed + 1e-5).all() and gradient[0] > 0
        before = step.difference
    assert len(moves) == 6
    assert float(gradient[1]) == pytest.approx(float(allowed[1]), rel=0.01), "the limit is reached"


def test_with_a_push_limit_a_factor_of_the_losses_does_not_change_the_edit(model):
    x = torch.randn(1, 4, 8, 8)
    c, edited = model.embed(["a cat"]), model.embed(["a dog"])

    def guided(factor, **settings):
        losses = (CrossAttention(0.1 * factor), Contrastive(5.0 * factor))
        return run(model, x, c, edited, make_plan(5.0, losses, **settings))

    for settings in ({"push_limit": 0.3}, {"push_limit": 0.3, "guidance_balance": 1.0}):
        one = guided(1.0, **settings)
        for factor in (0.01, 100.0):
            assert torch.allclose(one, guided(factor, **settings), atol=1e-3)
        assert (one - run(model, x, c, edited, make_plan(5.0))).abs().max() > 0.01
    assert not torch.allclose(guided(1.0), guided(100.0), atol=1e-3)


@pytest.mark.parametrize("settings", [{}, {"guidance_balance": 1.0}, {"guidance_prompt": "both"}])
def test_with_a_push_limit_a_direction_of_zero_returns_the_source(model, settings):
    x, c = torch.randn(2, 4, 8, 6), model.embed(["a cat", "the red bus"])
    plan = make_plan(5.0, BOTH, seeds=(0, 1), push_limit=0.3, cache_source=False, **settings)
    assert torch.equal(run(model, x, c, c, plan), x)
    cached = run(model, x, c, c, vary(plan, cache_source=True))
    assert (cached - x).abs().max() < 1e-4


def test_the_losses_of_a_batch_are_those_of_its_images_alone(model):
    x, c = torch.randn(2, 4, 8, 8), model.embed(["a cat", "the bus"])
    edited = model.embed(["a dog", "the big bus"])
    plan = make_plan(5.0, BOTH, seeds=(3, 1), push_limit=0.3, guidance_balance=1.0)

    def losses(rows):
        texts = c.rows(rows), edited.rows(rows)
        part = replace(plan, images=plan.images[rows])
        inversion = invert(model, x[rows], texts[0], layer_patterns=plan.cached_layers(6))
        return torch.stack([step.losses for step in edit(model, inversion, *texts, part)])

    together = losses(slice(0, 2))
    assert together.shape == (6, 2, 2) and (together > 0).all()
    for i in range(2):
        assert torch.allclose(losses(slice(i, i + 1))[..., 0], together[..., i], rtol=1e-2)


# the threshold of the difference


def peaks(*norms, channels=4):
    """``D`` (1, channels, 8, 8) whose norm is constant in each quarter of the image."""
    rows = torch.tensor(norms).view(2, 2).repeat_interleave(4, 0).repeat_interleave(4, 1)
    return (rows / channels**0.5).expand(1, channels, 8, 8)


def test_a_difference_below_the_threshold_becomes_zero_and_one_above_it_stays():
    before = peaks(0.1, 0.45, 1.0, 1.0)  # the 90th percentile is 1
    after = threshold(before, (0.3,))
    factors = (after / before)[0, 0]
    assert (factors[:3, :3] == 0).all() and (factors[5:, :] == 1).all()
    assert torch.allclose(factors[:3, 5:], torch.tensor(0.5), atol=1e-5)
    assert ((factors >= 0) & (factors <= 1)).all()
    assert threshold(before, (0.0,)) is before


def test_the_threshold_knows_no_magnitude_and_no_batch_mate():
    D = torch.randn(3, 4, 8, 6, generator=torch.Generator().manual_seed(0))
    D[1] *= 1000
    D[:, :, :4] *= 0.2
    limits = (0.4, 0.4, 0.0)
    after = threshold(D, limits)
    assert 0 < float((after == 0).float().mean()) < 1
    for factor in (1e-4, 1e4):
        assert torch.allclose(threshold(factor * D, limits) / factor, after, rtol=1e-4)
    for i in range(3):
        assert torch.allclose(threshold(D[i : i + 1], limits[i : i + 1])[0], after[i], rtol=1e-5)
    assert torch.equal(after[2], D[2])
    assert not threshold(torch.zeros(1, 4, 8, 8), (0.3,)).any(), "finite where D is zero"


def test_the_threshold_acts_in_the_middle_steps_only(model):
    x = torch.randn(1, 4, 8, 8)
    c, edited = model.embed(["a cat"]), model.embed(["a dog"])
    plan = make_plan(5.0, difference_threshold=0.8)
    inversion = invert(model, x, c, steps=10)
    zeros = [
        10 - step.level
        for step in edit(model, inversion, c, edited, plan)
        if (step.difference == 0).any()
    ]
    assert zeros == [3, 4, 5, 6, 7, 8], "after 30 to 80 % of the steps"
    plain = run(model, x, c, edited, make_plan(5.0))
    assert not torch.equal(run(model, x, c, edited, plan), plain)
    assert torch.equal(run(model, x, c, c, vary(plan, cache_source=False)), x), "nothing is asked"


# losses that need no layers


class Loss:
    """A guidance loss from a function, without layers."""

    layer_patterns = ()

    def __init__(self, function, weight=1.0):
        self.function, self.weight = function, weight

    def __call__(self, source, edited):
        return self.function(source, edited)


@pytest.mark.parametrize("cache_source", [True, False])
@pytest.mark.parametrize(
    "loss",
    [
        Loss(lambda source, edited: (edited.x - source.x).square().sum((1, 2, 3)), 0.05),
        Loss(lambda source, edited: (edited.eps - source.eps).square().sum((1, 2, 3)), 0.005),
    ],
    ids=["latents", "noise"],
)
def test_a_loss_of_latents_or_noise_reduces_the_difference(model, loss, cache_source):
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    c_edit, inversion = model.embed(["a dog"]), invert(model, x, c)
    *_, free = edit(model, inversion, c, c_edit, make_plan(1.0, cache_source=cache_source))
    plan = make_plan(1.0, (loss,), cache_source=cache_source)
    *_, guided = edit(model, inversion, c, c_edit, plan)
    assert 0 < guided.difference.norm() < free.difference.norm()
    assert guided.losses.shape == (1, 1) and guided.losses > 0


@pytest.mark.parametrize("factor", [2.0**-26, 1.0, 100.0])
def test_gradients_neither_vanish_nor_overflow_in_half_precision(model, factor):
    """float16 holds 2^-24..65504: scaled, the smallest remains, and the largest is not scaled."""
    loss = Loss(lambda _, edited: (factor * edited.x.half().float()).sum((1, 2, 3)))
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    inversion = invert(model, x, c)
    network = GuidedDenoiser(model, c, model.embed(["a dog"]), make_plan(5.0, (loss,)))
    source = network.source(inversion, 6)
    with count_evaluations() as spent:
        guided = network.guide(source.x, inversion.schedule.levels[6], source, 0.0)
    assert torch.equal(guided.gradient, torch.full_like(x, factor))
    assert float(guided.losses) == pytest.approx(factor * float(source.x.half().float().sum()))
    assert spent.forwards == (2 if factor * editing.LOSS_SCALE > 65504 else 1)


@pytest.mark.parametrize("factor", [2.0**-26, 100.0])
def test_losses_are_balanced_in_half_precision_whatever_their_size(model, factor):
    def loss(factor):
        return Loss(lambda _, edited: (factor * edited.x.half().float()).sum((1, 2, 3)))

    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    inversion = invert(model, x, c)
    plan = make_plan(5.0, (loss(1.0), loss(factor)), guidance_balance=0.5)
    network = GuidedDenoiser(model, c, model.embed(["a dog"]), plan)
    source = network.source(inversion, 6)
    weights = network._balance(source.x, inversion.schedule.levels[6], source)
    assert weights.flatten().tolist() == pytest.approx([1.0, 0.5 / factor], rel=1e-5)


def test_a_gradient_that_overflows_at_any_scale_is_an_error(model):
    loss = Loss(lambda _, edited: (1e5 * edited.x.half().float()).sum((1, 2, 3)))
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    steps = edit(model, invert(model, x, c), c, model.embed(["a dog"]), make_plan(5.0, (loss,)))
    with pytest.raises(NotFiniteError, match="gradients of the guidance losses"):
        next(steps)


@pytest.mark.parametrize("settings", [{}, {"cache_source": False}, {"guidance_balance": 1.0}])
def test_a_loss_that_does_not_depend_on_the_edited_image_has_no_gradient(model, settings):
    scale = torch.ones((), requires_grad=True)
    losses = (
        Loss(lambda source, edited: source.x.square().sum((1, 2, 3))),
        Loss(
            lambda source, edited: scale * source.x.square().sum((1, 2, 3))
        ),  # a weight of its own
    )
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    c_edit, inversion = model.embed(["a dog"]), invert(model, x, c)
    *_, free = edit(model, inversion, c, c_edit, make_plan(5.0))
    for guidance in (losses[:1], losses[1:], losses):
        *_, guided = edit(model, inversion, c, c_edit, make_plan(5.0, guidance, **settings))
        assert torch.allclose(guided.latents, free.latents, atol=1e-4)
        assert guided.losses.shape == (len(guidance), 1)
