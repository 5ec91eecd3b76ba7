import pytest

from synthrad.measurements import Measurement
from synthrad.study.by_net import by_net, table
from synthrad.study.verdicts import Comparison


def dice(arm, net, seed, value, task="teeth", **more):
    return Measurement("dice", value, task=task, net=net, arm=arm, seed=seed, **({"class_name": "macro"} | more))


def over(arm, net, difference, **more):
    return Comparison(arm, "real_only", "dice", difference, difference - 0.1, difference + 0.1, None, None, 3, 9, "seeds", task="teeth", net=net, **more)


MEASURED = [dice("real_only", "unet", s, 0.8 + 0.02 * s) for s in range(3)] + [dice("matched", "unet", s, 0.7) for s in range(3)] + [
    dice("real_only", "sam", 0, 0.6), dice("matched", "sam", 0, 0.65), dice("matched", "sam", 1, None), dice("matched", "sam", None, 0.1), dice("real_only", "unet", 0, 0.1, class_name="crown"),
    dice("real_only", "unet", 0, 0.1, subgroup="external site"), dice("real_only", "unet", 0, 0.5, task="alone"), Measurement("iou", 0.3, task="teeth", net="unet", arm="matched", seed=0, class_name="macro")]
EXPLORED = [over("matched", "unet", -0.1), over("matched", "unet", 0.9, class_name="crown"), over("matched", "unet", 0.8, external="site")]


def test_arms_stand_beside_each_other_under_every_net_of_a_task():
    (found,) = by_net(MEASURED, EXPLORED, ["real_only", "matched", "never"], {("teeth", "sam"): "random, frozen"})
    assert (found.task, found.metric, found.nets) == ("teeth", "dice", {"unet": "", "sam": "random, frozen"})
    assert list(found.cells) == ["real_only", "matched"]
    unet, sam = found.cells["real_only"]
    assert (unet.mean, unet.deviation, unet.seeds, unet.over) == (pytest.approx(0.82), pytest.approx(0.02), 3, None)
    assert (sam.mean, sam.deviation, sam.seeds) == (0.6, None, 1)
    assert found.cells["matched"][0].over is EXPLORED[0] and found.cells["matched"][1].over is None and found.cells["matched"][1].mean == 0.65
    (line,) = found.effects()
    assert (line.arm, line.against, line.difference, line.low, line.high) == ("matched", "unet", -0.1, pytest.approx(-0.2), 0.0)


def test_an_arm_that_a_net_has_not_seen_is_an_empty_cell():
    (found,) = by_net([*MEASURED, dice("best", "unet", 0, 0.9)], [], ["best"], {})
    assert found.cells["best"][1] is None and list(found.cells) == ["best"] and found.effects() == []
    assert [row[2:] for row in table([found]).rows] == [("unet", "", "best", 0.9, None, 1, None, None, None)]
