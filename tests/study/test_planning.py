import re

import pytest
from test_command import STUDY

from synthrad.data.phantom import write_phantoms
from synthrad.data.phantom_dialled import draw_dialled
from synthrad.errors import InputError
from synthrad.study.description import Study
from synthrad.study.planning import LONGER, identities, make_plan, planned_fits, steps_of, strategy_of


@pytest.fixture
def real(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "dataset.yaml").write_text("x")
    return write_phantoms(tmp_path / "real", 40, (32, 64), 0)


def study(**changes):
    return Study.model_validate({**STUDY, **changes})


def test_every_adding_arm_has_two_controls_and_empty_arms_are_dropped(real):
    plan = make_plan(study(), real.where(split="train"))
    assert plan["matched"].controls == ("matched_duplicate", "matched_augmented")
    assert plan["nothing"].same_as == "real_only"
    assert plan["only"].controls == ()
    assert [a.name for a in plan.fitted()] == ["real_only", "matched", "matched_duplicate", "matched_augmented", "only"]
    n = len(real.where(split="train"))
    assert plan["matched"].rows_added == n
    assert sum(plan.wanted["good"].values()) == n  # the larger need of each cell serves both arms


def test_controls_that_coincide_are_shared(real):
    arms = {**STUDY["arms"], "again": {"strategy": "Matched", "source": "good"}}
    plan = make_plan(study(arms=arms), real.where(split="train"))
    assert plan["again"].controls == plan["matched"].controls
    assert not any(a.name == "again_duplicate" for a in plan.arms)


def test_real_pairs_of_a_control_are_moved_as_the_masks_of_its_arm(real):
    train = real.where(split="train")
    sources = {s: {"generator": "gan.yaml", "mask_transform": move} for s, move in (("still", "none"), ("bent", "elastic"), ("within", "within:tooth"))}
    arms = {"real_only": {"strategy": "RealOnly"}} | {s: {"strategy": "Matched", "source": s} for s in sources}
    made = study(sources=sources, arms=arms)
    plan = make_plan(made, train)
    assert plan["still"].controls == plan["within"].controls == ("still_duplicate", "still_augmented")
    assert plan["bent"].controls == ("still_duplicate", "bent_augmented")
    how = {a.name: strategy_of(made, a).how for a in plan.arms if a.strategy == "AugmentedReal"}
    assert how == {"still_augmented": "strong", "bent_augmented": "elastic"}


def test_controls_of_two_sources_are_shared_where_both_pools_fill_the_arms(real, tmp_path):
    train = real.where(split="train")
    draw_dialled(real, tmp_path / "full", 2 * len(train), "good", 7)
    draw_dialled(real, tmp_path / "few", 5, "good", 7)
    sources = {"good": {"manifest": "full"}, "other": {"manifest": "full"}, "poor": {"manifest": "few"}}
    again = {f"by_{s}": {"strategy": "Matched", "source": s} for s in ("other", "poor")}
    plan = make_plan(study(sources=sources, arms={**STUDY["arms"], **again}), train)
    assert plan["by_other"].controls == plan["matched"].controls == ("matched_duplicate", "matched_augmented")
    assert plan["by_poor"].controls == ("by_poor_duplicate", "by_poor_augmented")


def test_identity_follows_what_decides_the_result_and_nothing_else(real):
    def of(changed):
        return identities(changed, make_plan(changed, real.where(split="train")), real)["fit"]

    base = of(study())
    key = "findings/resnet18/"
    assert of(study(title="other words", seeds=3)) == base
    arms = {**STUDY["arms"], "matched": {"strategy": "Matched", "args": {"ratio": 2}, "source": "good"}}
    other = of(study(arms=arms))
    assert other[key + "real_only"] == base[key + "real_only"]
    for arm in ("matched", "matched_duplicate", "matched_augmented"):
        assert other[key + arm] != base[key + arm]


def test_weights_of_a_net_decide_by_what_they_hold(real, tmp_path):
    def of(weights):
        task = STUDY["tasks"]["findings"]
        nets = {"resnet18": {**task["nets"]["resnet18"], "init_args": {"name": "resnet18", **({} if weights is None else {"weights": weights})}}}
        changed = study(tasks={**STUDY["tasks"], "findings": {**task, "nets": nets}})
        return identities(changed, make_plan(changed, real.where(split="train")), real)["fit"]["findings/resnet18/real_only"]

    file = tmp_path / "net.pth"
    file.write_bytes(b"one")
    before, random = of(str(file)), of(None)
    assert of(str(file.rename(tmp_path / "elsewhere.pth"))) == before != random
    (tmp_path / "elsewhere.pth").write_bytes(b"two")
    assert of(str(tmp_path / "elsewhere.pth")) not in (before, random)


def test_a_study_that_gives_verdicts_trains_the_reference_for_twice_the_steps_too(real):
    plan = make_plan(study(), real.where(split="train"))
    key = f"findings/resnet18/{LONGER}"
    for silent in (study(seeds=4), study(seeds=5, mechanics=True)):
        assert not [k for k in planned_fits(silent, plan) if LONGER in k]
    judged = study(seeds=5, mechanics=False)
    assert [k for k in planned_fits(judged, plan) if LONGER in k] == [key]
    arm = planned_fits(judged, plan)[key]
    assert steps_of(judged, judged.tasks["findings"], arm, 22) == 2 * judged.tasks["findings"].steps
    assert strategy_of(judged, arm).needs(real.where(split="train")).total() == 0
    ids = identities(judged, plan, real)["fit"]
    assert ids[key] != ids["findings/resnet18/real_only"] and set(ids) == set(planned_fits(judged, plan))
    taken = study(arms={**STUDY["arms"], LONGER: {"strategy": "RealOnly"}})
    with pytest.raises(InputError, match="twice the steps"):
        make_plan(taken, real.where(split="train"))


def test_a_comment_in_a_config_changes_no_identity_and_a_setting_does(real, tmp_path):
    def of(text):
        (tmp_path / "filter.yaml").write_text(text)
        changed = study(sources={"good": {"manifest": "good", "filter": str(tmp_path / "filter.yaml")}})
        return identities(changed, make_plan(changed, real.where(split="train")), real)["pool"]

    base = of("class_path: a\ninit_args: {min_dice: 0.7}\n")
    assert of("# why 0.7\nclass_path: a\ninit_args:\n  min_dice: 0.7\n") == base
    assert of("class_path: a\ninit_args: {min_dice: 0.8}\n") != base


def test_sizes_of_sources_and_tasks_decide_their_results_alone(real, tmp_path):
    (tmp_path / "gan.yaml").write_text("model: {class_path: StyleGAN2}\n")

    def of(source=None, task=None, whole=(64, 128)):
        sources = {"good": {"generator": str(tmp_path / "gan.yaml"), "size": source}}
        tasks = {"findings": {**STUDY["tasks"]["findings"], "size": task}}
        changed = study(sources=sources, tasks=tasks, size=whole)
        return identities(changed, make_plan(changed, real.where(split="train")), real)

    base, reference = of(), "findings/resnet18/real_only"
    assert of(source=(32, 64))["generator"] != base["generator"] == of(source=(64, 128))["generator"]
    assert of(source=(32, 64))["fit"][reference] == base["fit"][reference] != of(task=(32, 64))["fit"][reference]
    assert of(task=(32, 64))["generator"] == base["generator"] != of(whole=(128, 256))["generator"]
    assert of(task=(64, 128)) == base == of(source=(64, 128))  # said or not, it is the same


def test_the_checkpoint_that_a_generator_starts_from_decides_by_its_content(real, tmp_path):
    start = tmp_path / "last.ckpt"

    def of(text, content, overrides=()):
        (tmp_path / "ldm.yaml").write_text(text)
        start.write_text(content)
        changed = study(sources={"good": {"generator": str(tmp_path / "ldm.yaml"), "overrides": list(overrides)}})
        return identities(changed, make_plan(changed, real.where(split="train")), real)["generator"]

    bare = "model: {class_path: Diffusion}\n"
    for text, overrides in ((f"model: {{class_path: Diffusion, init_args: {{autoencoder: {start}}}}}\n", ()),
                            (bare, [f"--model.autoencoder={start}"]), (bare, [f"--model.init_args.init_from={start}"]), (bare, [f"--model.base={start}"])):
        assert of(text, "one", overrides) == of(text, "one", overrides) != of(text, "another", overrides)
    assert of(bare, "one") == of(bare, "another")
    wide = ["--model.channel_base=64", "--model.text=words"]
    assert of(bare, "one", wide) == of(bare, "another", wide)
    encoder = tmp_path / "encoder"
    encoder.mkdir()
    start = encoder / "model.bin"
    read = [f"--model.text={encoder}"]
    assert of(bare, "one", read) == of(bare, "one", read) != of(bare, "another", read)


def test_a_source_that_another_starts_from_decides_by_its_own_identity(real, tmp_path):
    (tmp_path / "ldm.yaml").write_text("model: {}")

    def of(images, checkpoint="last", **keys):
        vae = {"generator": str(tmp_path / "ldm.yaml"), "overrides": [f"--model.max_images={images}"], "checkpoint": checkpoint}
        sources = {"good": {"generator": str(tmp_path / "ldm.yaml"), **({"starts": {"model.autoencoder": "vae"}} | keys)}, "vae": vae}
        changed = study(sources=sources)
        return identities(changed, make_plan(changed, real.where(split="train")), real)["generator"]

    assert of(1)["good"] == of(1)["good"] != of(2)["good"] and of(1)["good"] != of(1, "best")["good"]
    assert of(1, starts={})["good"] == of(2, starts={})["good"] != of(1)["good"]


@pytest.mark.parametrize("starts, told", [
    ({"model.autoencoder": "nobody"}, "sources.good.starts.model.autoencoder: 'nobody' is none of the sources with a `generator` ['vae']"),
    ({"model.autoencoder": "made"}, "'made' is none of"),
    ({"model.autoencoder": "good"}, "'good' starts from 'good' itself"),
    ({"model.autoencoder": "vae"}, "sources.vae.starts.model.init_from: 'good' starts from 'vae' itself"),
    ({"autoencoder": "vae"}, "found 'autoencoder', expected an option"),
])
def test_a_source_starts_from_trained_sources_only_and_never_from_itself(starts, told):
    vae = {"generator": "vae.yaml", "starts": {"model.init_from": "good"} if "sources.vae" in told else {}}
    with pytest.raises(ValueError, match=re.escape(told)):
        study(sources={"good": {"generator": "ldm.yaml", "starts": starts}, "vae": vae, "made": {"manifest": "made"}})


def test_budgets(real):
    equal, exposed = study(), study(budget="real_exposure")
    plan, task = make_plan(equal, real.where(split="train")), equal.tasks["findings"]
    n = len(real.where(split="train"))
    assert steps_of(equal, task, plan["matched"], n) == 4
    assert steps_of(exposed, task, plan["matched"], n) == steps_of(exposed, task, plan["matched_duplicate"], n) == 8
    assert steps_of(exposed, task, plan["real_only"], n) == 4


def test_moved_masks_are_another_pool_of_the_same_generator(real, tmp_path):
    (tmp_path / "gan.yaml").write_text("model: {}")
    sources = {"good": {"generator": "gan.yaml"}, "moved": {"generator": "gan.yaml", "mask_transform": "flip"}}
    sources["one"] = {"generator": "gan.yaml", "prompts": "single"}
    sources["zero"] = {"generator": "gan.yaml", "prompts": "single", "unnamed": "absent"}
    made = study(sources=sources, arms={**STUDY["arms"], "moved": {"strategy": "Matched", "source": "moved"}})
    ids = identities(made, make_plan(made, real.where(split="train")), real)
    assert len(set(ids["generator"].values())) == 1 and len(set(ids["pool"].values())) == 4
    assert ids["generator"]["good"] == ids["generator"]["moved"] and ids["pool"]["good"] != ids["pool"]["moved"]
