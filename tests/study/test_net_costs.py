from synthrad.measurements import Measurement
from synthrad.study.net_costs import net_costs


def test_a_row_a_net_with_the_references_score_and_median_cost():
    fits = [{"task": "t", "net": net, "arm": arm, "seed": s, "seconds": 10.0 * (s + 1), "parameters": 100, "trained": 7, "flops": 3e9, "memory_bytes": 2e6, "precision": "bf16-mixed"}
            for net in ("cnn", "vit") for arm in ("real_only", "matched") for s in range(3)]
    fits += [{"task": "t", "net": "old", "arm": "real_only", "seed": 0, "seconds": 5.0, "parameters": 100}, {"task": "t", "net": "none", "arm": "matched", "seconds": 1.0}]
    scores = [Measurement("auroc", 0.6 + 0.1 * s, task="t", net="cnn", arm="real_only", seed=s, class_name="macro") for s in range(3)]
    scores += [Measurement("auroc", 0.9, task="t", net="cnn", arm="matched", seed=0, class_name="macro"), Measurement("f1", 0.2, task="t", net="cnn", arm="real_only", seed=0, class_name="macro"),
               Measurement("auroc", 0.1, task="t", net="cnn", arm="real_only", seed=0, class_name="caries"), Measurement("auroc", None, task="t", net="vit", arm="real_only", seed=0, class_name="macro"),
               Measurement("auroc", 0.2, task="t", net="cnn", arm="real_only", seed=0, class_name="macro", subgroup="site")]
    rows = {row[1]: row for row in net_costs(fits, scores).rows}
    assert rows.keys() == {"cnn", "vit", "old"}
    assert rows["cnn"][2:3] + rows["cnn"][4:] == ("auroc", 100, 7, 3.0, 20.0, 2.0, "bf16-mixed") and abs(rows["cnn"][3] - 0.7) < 1e-9
    assert rows["vit"][2:4] == ("", None) and rows["old"][4:] == (100, None, None, 5.0, None, None)
