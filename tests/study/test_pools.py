"""Where a run folder keeps its sources: checkpoint, checks and pools, named relative to the folder or absolute."""

import json

from synthrad.study.pools import checkpoint_of, checks_of, pools_of


def source(folder, **files):
    made = folder / "sources" / "gan"
    made.mkdir(parents=True)
    for name, content in files.items():
        (made / f"{name}.json").write_text(json.dumps(content))
    return made


def test_checkpoint_is_named_relative_to_the_run_folder(tmp_path):
    source(tmp_path, generator={"checkpoint": "sources/gan/generator-1/checkpoints/last.ckpt"})
    assert checkpoint_of(tmp_path, "gan") == tmp_path / "sources/gan/generator-1/checkpoints/last.ckpt"


def test_checks_are_the_lines_of_the_fit_in_order(tmp_path):
    made = source(tmp_path, generator={"checkpoint": "sources/gan/generator-1/checkpoints/last.ckpt"})
    fit = made / "generator-1"
    fit.mkdir()
    (fit / "fidelity.jsonl").write_text('{"images": 8, "kid": 2.0}\n\n{"images": 16, "kid": 1.0}\n')
    assert checks_of(tmp_path, "gan", "fidelity") == [{"images": 8, "kid": 2.0}, {"images": 16, "kid": 1.0}]
    assert checks_of(tmp_path, "gan", "adherence") == []


def test_a_source_that_was_not_trained_here_has_no_checks(tmp_path):
    source(tmp_path, pool={"manifests": []})
    assert checks_of(tmp_path, "gan", "fidelity") == []


def test_pools_one_a_draw_relative_or_absolute(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    source(tmp_path / "run", pool={"manifests": ["sources/gan/pool-1/0", str(elsewhere)]})
    assert pools_of(tmp_path / "run", "gan") == [tmp_path / "run/sources/gan/pool-1/0", elsewhere]
