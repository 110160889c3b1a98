import math
from dataclasses import replace

import pytest
import tiny
import torch
from gaussian import GaussianWorld

from zerocon.diffusion import ddim_coefficients, ddim_step
from zerocon.editing import Plan, Walk, edit, limit_norm, limit_to_polyak_step
from zerocon.guidance import Contrastive, CrossAttention
from zerocon.inversion import DDIM
from zerocon.nfe import BACKWARD, count_evaluations
from zerocon.observation import Observer
from zerocon.settings import Settings
from zerocon.trajectory import Inversion, recompute_observations

BOTH = (CrossAttention(0.1), Contrastive(5.0))


@pytest.fixture(scope="module")
def model():
    return tiny.model()


def invert(model, x, c, steps=6, layer_patterns=frozenset()):
    schedule = model.schedule(steps)
    path = DDIM()(Observer(model, c, layer_patterns), x, schedule)
    return Inversion.along(
        path,
        schedule=schedule,
        captions=("",) * len(c),
        model="t",
        recipe={},
        layer_patterns=layer_patterns,
    )


def run(model, x, c, edited, plan, steps=6):
    inversion = invert(
        model, x, c, steps, plan.layer_patterns if plan.cache_source else frozenset()
    )
    *_, out = edit(model, inversion, c, edited, plan)
    return out.latents


@pytest.mark.parametrize("guidance", [(), (CrossAttention(0.1),), (Contrastive(5.0),), BOTH])
def test_asking_for_nothing_changes_nothing(model, guidance):
    x, c = torch.randn(2, 4, 8, 6), model.embed(["a cat", "the red bus"])
    again = run(model, x, c, c, Plan(5.0, guidance, cache_source=False, seeds=(0, 1)))
    assert torch.equal(again, x)
    remembered = run(model, x, c, c, Plan(5.0, guidance, seeds=(0, 1)))
    assert (remembered - x).abs().max() < 1e-4


def test_hard_contrast_moves_a_picture_nobody_asked_to_move(model):
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    hard = Plan(5.0, (Contrastive(5.0, targets="hard"),), cache_source=False)
    assert (run(model, x, c, c, hard) - x).abs().max() > 1e-3


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_the_difference_form_is_exact_at_any_number_of_steps_and_plain_ddim_is_not(model, steps):
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    assert torch.equal(run(model, x, c, c, Plan(5.0, cache_source=False), steps), x)
    inversion = invert(model, x, c, steps)
    plain, levels = inversion.latents[-1], inversion.schedule.levels
    for level in range(steps, 0, -1):
        eps = model.eps(plain, inversion.schedule.times[level], c)
        plain = ddim_step(plain, eps, levels[level], levels[level - 1])
    assert (plain - x).abs().max() > 1e-4


def test_the_difference_form_is_two_branches_with_direct_inversion():
    """Eq. 7.1 against the explicit loop: edit step plus the source step's own error, in float64."""
    world = GaussianWorld()
    c, edited = world.say(0.0, 0.0), world.say(1.0, -0.5)
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64)
    inversion = invert(world, x, c, steps=20)
    levels = inversion.schedule.levels
    branch = inversion.latents[-1]
    for level in range(20, 0, -1):
        here, there = levels[level], levels[level - 1]
        said = world.eps(branch, here.time, edited)
        source = ddim_step(inversion.latents[level], inversion.eps[level], here, there)
        error = inversion.latents[level - 1] - source
        branch = ddim_step(branch, said, here, there) + error
        phi, psi = ddim_coefficients(there, here)
        closed = psi / phi * (inversion.eps[level] - inversion.eps[level - 1])
        assert torch.allclose(error, closed, atol=1e-12)
    *_, ours = edit(world, inversion, c, edited, Plan(guidance_scale=1.0))
    assert torch.allclose(ours.latents, branch, atol=1e-10)


def test_an_edit_moves_a_gaussian_by_what_was_asked():
    world = GaussianWorld()
    c, edited = world.say(0.0, 0.0), world.say(1.0, -0.5)
    x = torch.randn(1, 2, 8, 8, dtype=torch.float64) * 0.5
    *_, out = edit(world, invert(world, x, c, steps=200), c, edited, Plan(guidance_scale=1.0))
    moved = (out.latents - x).mean((0, 2, 3))
    assert torch.allclose(moved, torch.tensor([1.0, -0.5], dtype=torch.float64), atol=0.05)


def test_guidance_pulls_the_edit_back_towards_its_source(model):
    x = torch.randn(1, 4, 8, 8)
    c, edited = model.embed(["a cat"]), model.embed(["a dog"])
    free = run(model, x, c, edited, Plan(5.0))
    for guidance in (CrossAttention(3.0), Contrastive(3000.0)):
        held = run(model, x, c, edited, Plan(5.0, (guidance,)))
        assert not torch.allclose(held, free, atol=1e-5), guidance


def test_a_batch_is_its_pictures(model):
    x = torch.randn(3, 4, 8, 6)
    c = model.embed(["a cat", "the bus", "one tree"])
    edited = model.embed(["a dog", "the big bus", "one hut"])
    plan = Plan(5.0, BOTH, seeds=(3, 1, 4))
    together = model.decode(run(model, x, c, edited, plan))
    for i in range(3):
        one = slice(i, i + 1)
        alone = run(
            model,
            x[one],
            replace(c, tokens=c.tokens[one], ids=c.ids[one]),
            replace(edited, tokens=edited.tokens[one], ids=edited.ids[one]),
            replace(plan, seeds=plan.seeds[one]),
        )
        difference = model.decode(alone)[0] - together[i]
        assert difference.abs().max() <= 2 / 127.5  # two grey levels of 255


def test_the_same_seed_gives_the_same_bits(model):
    x = torch.randn(1, 4, 8, 8)
    c, edited = model.embed(["a cat"]), model.embed(["a dog"])
    plan = Plan(5.0, (Contrastive(50.0, patches=8),), seeds=(5,))
    torch.manual_seed(0)
    first = run(model, x, c, edited, plan)
    torch.manual_seed(1)
    assert torch.equal(first, run(model, x, c, edited, plan))
    assert not torch.equal(first, run(model, x, c, edited, replace(plan, seeds=(6,))))


def test_remembering_and_looking_again_agree(model):
    x = torch.randn(1, 4, 8, 8)
    c, edited = model.embed(["a cat"]), model.embed(["a big dog"])
    remembered = run(model, x, c, edited, Plan(5.0, BOTH))
    again = run(model, x, c, edited, Plan(5.0, BOTH, cache_source=False))
    assert torch.allclose(remembered, again, atol=1e-3)


def test_a_recollected_inversion_edits_as_the_first_did(model):
    x = torch.randn(1, 4, 8, 8)
    c, edited = model.embed(["a cat"]), model.embed(["a dog"])
    plan = Plan(5.0, BOTH)
    first = run(model, x, c, edited, plan)
    bare = invert(model, x, c)
    with pytest.raises(ValueError, match="remembers no maps"):
        next(edit(model, bare, c, edited, plan))
    with count_evaluations() as spent:
        seen = tuple(recompute_observations(Observer(model, c, plan.layer_patterns), bare))
    assert spent.forwards == 6
    *_, second = edit(
        model, replace(bare, seen=seen, layer_patterns=plan.layer_patterns), c, edited, plan
    )
    assert torch.allclose(first, second.latents, atol=1e-3)


@pytest.mark.parametrize(
    ("plan", "forwards", "backwards"),
    [
        (Plan(5.0, BOTH), 51 + 50 + 100, 50),
        (Plan(5.0), 51 + 100, 0),
        (Plan(5.0, BOTH, guidance_range=(0.0, 0.6)), 51 + 30 + 100, 30),
        (Plan(5.0, BOTH, cache_source=False), 51 + 100 + 150, 100),
    ],
)
def test_the_cost_of_fifty_steps(model, plan, forwards, backwards):
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    with count_evaluations() as spent:
        run(model, x, c, model.embed(["a dog"]), plan, steps=50)
    assert (spent.forwards, spent.backwards) == (forwards, backwards)
    assert spent.total == pytest.approx(forwards + BACKWARD * backwards)
    if plan.guidance and plan.cache_source:
        assert spent.total <= 260


@pytest.mark.parametrize(
    ("plan", "forwards", "backwards"),
    [
        (Plan(5.0, BOTH, reuse_prediction=True), 51 + 50 + 50, 50),
        (Plan(5.0, BOTH, reuse_prediction=True, guidance_range=(0.0, 0.5)), 51 + 25 + 25 + 50, 25),
        (Plan(5.0, BOTH, guidance_prompt="both"), 51 + 100 + 100, 100),
        (Plan(5.0, BOTH, guidance_balance=1.0), 51 + 50 + 100 + 1, 50 + 2),
    ],
)
def test_the_cost_of_the_other_ways(model, plan, forwards, backwards):
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    with count_evaluations() as spent:
        run(model, x, c, model.embed(["a dog"]), plan, steps=50)
    assert (spent.forwards, spent.backwards) == (forwards, backwards)


@pytest.mark.parametrize(
    "plan", [Plan(5.0, BOTH, guidance_prompt="source"), Plan(5.0, BOTH, guidance_prompt="both")]
)
def test_any_half_leaves_alone_what_nobody_asked_to_change(model, plan):
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    assert torch.equal(run(model, x, c, c, replace(plan, cache_source=False)), x)


def test_one_look_and_two_differ_by_the_size_of_the_step_that_guidance_takes(model):
    """Property: the difference is of the order of the pull, so it vanishes with the weight."""
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    edited = model.embed(["a dog"])

    def gap(weight):
        plan = Plan(1.0, (CrossAttention(weight),))
        return float((run(model, x, c, edited, plan) - run(
            model, x, c, edited, replace(plan, reuse_prediction=True)
        )).norm())  # fmt: skip

    small, large = gap(0.1), gap(1.0)
    assert 0 < small < 0.3 * large


def test_the_released_code_keeps_the_half_that_is_not_pulled_at_first(model):
    """pix2pix-zero moves its latents by the maps of the caption, whose gradient starts at zero."""
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    edited, plan = model.embed(["a dog"]), Plan(5.0, (CrossAttention(1.0),), cache_source=False)
    inversion = invert(model, x, c)
    t = inversion.schedule.times[6]

    def pull(guidance_prompt):
        walk = Walk(model, c, edited, replace(plan, guidance_prompt=guidance_prompt))
        source = walk.recall(inversion, 6)
        return walk.nudge(source.x, t, source, torch.ones(1, 1)).gradient

    assert not pull("source").any()
    assert pull("target").norm() > 0
    # a mean over both sentences' maps halves what each of them says
    assert torch.allclose(pull("both"), pull("target") / 2, atol=1e-8)


def test_balanced_guidances_pull_in_the_proportion_asked_for(model):
    x, c = torch.randn(2, 4, 8, 8), model.embed(["a cat", "the bus"])
    edited = model.embed(["a dog", "the hut"])
    plan = Plan(5.0, BOTH, guidance_balance=0.5, seeds=(0, 1))
    inversion = invert(model, x, c, layer_patterns=plan.layer_patterns)
    walk, t = Walk(model, c, edited, plan), inversion.schedule.times[6]
    source = walk.recall(inversion, 6)
    weights = walk.weigh(source.x, t, source)
    assert torch.allclose(weights[0], torch.tensor(0.1))

    def lengths(row):
        alone = torch.zeros_like(weights)
        alone[row] = weights[row]
        pull = walk.nudge(source.x, t, source, alone).gradient
        return pull.flatten(1).norm(dim=1)

    assert torch.allclose(lengths(1), 0.5 * lengths(0), rtol=1e-3)


def test_without_correction_it_is_plain_ddim(model):
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    edited = model.embed(["a dog"])
    inversion = invert(model, x, c)
    plain, levels = inversion.latents[-1], inversion.schedule.levels
    for level in range(6, 0, -1):
        t = inversion.schedule.times[level]
        with torch.no_grad():
            said = model.eps(plain, t, c), model.eps(plain, t, edited)
        plain = ddim_step(
            plain, said[0] + 3 * (said[1] - said[0]), levels[level], levels[level - 1]
        )
    *_, ours = edit(model, inversion, c, edited, Plan(3.0, source_correction=False))
    assert torch.allclose(ours.latents, plain, atol=1e-3)


def test_the_scale_may_run_from_noise_to_picture(model):
    assert [Plan((8.0, 4.0)).scale_at(done) for done in (0.0, 0.5, 1.0)] == [8.0, 6.0, 4.0]
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    edited = model.embed(["a dog"])
    level = run(model, x, c, edited, Plan(5.0))
    assert torch.equal(run(model, x, c, edited, Plan((5.0, 5.0))), level)
    assert not torch.equal(run(model, x, c, edited, Plan((5.0, 1.0))), level)


def test_a_step_says_where_it_stands():
    """In the Gaussian world a step's clean guess is the exact posterior mean's difference."""
    world = GaussianWorld()
    c, edited = world.say(0.0, 0.0), world.say(1.0, -0.5)
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64) * 0.5
    inversion = invert(world, x, c, steps=50)
    steps = list(edit(world, inversion, c, edited, Plan(guidance_scale=1.0)))
    assert [step.level for step in steps] == list(range(49, -1, -1))
    for step in steps:
        assert torch.allclose(step.latents - step.difference, inversion.latents[step.level])
    assert torch.allclose(steps[-1].clean, steps[-1].latents, atol=0.01)
    moved = (steps[0].clean - x).mean((0, 2, 3))  # nearly all noise: what the sentences say
    assert torch.allclose(moved, torch.tensor([1.0, -0.5], dtype=torch.float64), atol=0.05)
    assert steps[0].losses is None


def test_a_step_tells_the_losses_of_each_guidance_and_picture(model):
    x, c = torch.randn(2, 4, 8, 8), model.embed(["a cat", "the bus"])
    edited, plan = model.embed(["a dog", "the hut"]), Plan(5.0, BOTH, seeds=(0, 1))
    inversion = invert(model, x, c, layer_patterns=plan.layer_patterns)
    for step in edit(model, inversion, c, edited, plan):
        assert step.losses.shape == (2, 2) and (step.losses >= 0).all()


def test_guided_steps_are_counted_from_noise():
    plan = Plan(5.0, BOTH, guidance_range=(0.0, 0.6))
    assert [plan.guides(done / 10) for done in range(10)] == [True] * 6 + [False] * 4
    assert not Plan(5.0).guides(0.0)


@pytest.mark.parametrize("steps", [5, 10, 50])
def test_all_steps_together_may_pull_as_far_however_many_they_are(steps):
    """Weights and cap are those of a walk of fifty steps."""
    model = tiny.model()
    c, schedule = model.embed(["a cat"]), model.schedule(steps)
    plan = Plan(2.0, (CrossAttention(weight=1e6),), guidance_limit=(0.01,))
    path = DDIM()(Observer(model, c, plan.layer_patterns), torch.randn(1, 4, 8, 8), schedule)
    inversion = Inversion.along(
        path,
        schedule=schedule,
        captions=("",),
        model="t",
        recipe={},
        layer_patterns=plan.layer_patterns,
    )
    walk = Walk(model, c, model.embed(["dog"]), plan, 50 / steps)
    source = walk.recall(inversion, steps)
    x = source.x + 0.1
    pull = walk.nudge(x, schedule.times[steps], source, torch.tensor([[1e6]])).gradient
    assert float(pull.norm() / x.norm()) * steps == pytest.approx(0.01 * 50, rel=1e-4)


def test_the_cap_shortens_long_gradients_only_and_each_picture_by_its_own():
    x = torch.ones(3, 4, 8, 8)
    gradient = torch.stack([torch.full((4, 8, 8), length) for length in (10.0, 10.0, 0.01)])
    short = limit_norm(gradient, x, torch.tensor([0.1, 0.5, 0.1]))
    assert torch.allclose(short[0], torch.full((4, 8, 8), 0.1))
    assert torch.allclose(short[1], torch.full((4, 8, 8), 0.5))
    assert torch.equal(short[2], gradient[2])
    assert torch.equal(limit_norm(gradient, x, torch.tensor(math.inf)), gradient)


def test_each_picture_of_a_batch_has_the_cap_of_its_change():
    settings = Settings(guidance_limit="0.01,style=0.05,place=0.03")
    plan = Plan.of(settings, [{"style"}, {"object"}, {"style", "place"}, set(), {"style", "added"}])
    assert plan.guidance_limit == (0.05, 0.01, 0.03, 0.01, 0.01)
    assert Plan.of(Settings()).guidance_limit == (math.inf,)
    assert Plan.of(Settings(guidance_limit=0.2), [{"style"}, {"object"}]).guidance_limit == (
        0.2,
        0.2,
    )


def test_a_steady_step_never_overshoots_a_convex_loss():
    """On ``sum h (x - x*)^2`` with any curvature: after it, x is no further from x* than before."""
    x, goal = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8)
    for curvature in (0.01, 0.4, 3.0, 1e4):
        bends = curvature * torch.rand(3, 4, 8, 8)
        losses = (bends * (x - goal).square()).flatten(1).sum(1)
        gradient = 2 * bends * (x - goal)
        after = x - limit_to_polyak_step(gradient, losses)
        before = (x - goal).flatten(1).norm(dim=1)
        assert ((after - goal).flatten(1).norm(dim=1) <= before).all()
        if curvature <= 0.25:  # its own length is short enough
            assert torch.equal(limit_to_polyak_step(gradient, losses), gradient)


def test_a_steady_step_of_nothing_is_nothing():
    nothing = torch.zeros(2, 4, 8, 8)
    assert torch.equal(limit_to_polyak_step(nothing, torch.zeros(2)), nothing)


def test_heavy_guidance_blows_up_what_is_remembered_unless_it_is_steady(model):
    """Rounding between batches of one and two is a disturbance that a long step blows up."""
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    heavy = (CrossAttention(3000.0),)
    polyak_step = run(model, x, c, c, Plan(5.0, heavy, polyak_step=True), steps=12)
    assert (polyak_step - x).abs().max() < 1e-4
    swinging = run(model, x, c, c, Plan(5.0, heavy), steps=12)
    assert (swinging - x).abs().max() > 1.0


def test_weights_never_get_gradients(model):
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    run(model, x, c, model.embed(["a dog"]), Plan(5.0, BOTH))
    for network in (model.unet, model.vae, model.text_encoder):
        assert all(p.grad is None and not p.requires_grad for p in network.parameters())


def test_the_loop_yields_every_step_and_can_be_left(model):
    x, c = torch.randn(1, 4, 8, 8), model.embed(["a cat"])
    inversion = invert(model, x, c)
    assert len(list(edit(model, inversion, c, c, Plan(5.0)))) == 6
    walk = edit(model, inversion, c, c, Plan(5.0))
    next(walk)
    walk.close()
    assert torch.is_grad_enabled()


def test_a_half_precision_network_edits_in_float32():
    model = tiny.model()
    model.unet.to(torch.bfloat16)
    x = torch.randn(1, 4, 8, 8)
    c, edited = model.embed(["a cat"]), model.embed(["a dog"])
    inversion = invert(model, x, c, layer_patterns=Plan(5.0, BOTH).layer_patterns)
    assert next(iter(inversion.seen[1].maps.values())).dtype == torch.bfloat16
    for step in edit(model, inversion, c, edited, Plan(5.0, BOTH)):
        assert step.latents.dtype == torch.float32 and step.latents.isfinite().all()
