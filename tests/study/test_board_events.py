"""Event files: read back by TensorBoard itself, the same bytes twice, and text that stays text."""

import pytest
from markdown import markdown
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

from synthrad.study.board_events import NAME, escaped, markdown_table, remove_events, scalar, write_events


def test_events_are_read_back_in_order_with_step_and_time(tmp_path):
    path = write_events(tmp_path, [(3, scalar("a", 0.25)), (7, scalar("a", 0.5)), (7, scalar("b", -1.0))], 1234.5)
    first, *rest = LegacyEventFileLoader(str(path)).Load()
    assert path == tmp_path / NAME and first.file_version == "brain.Event:2" and {e.wall_time for e in (first, *rest)} == {1234.5}
    assert [(e.step, v.tag, v.simple_value) for e in rest for v in e.summary.value] == [(3, "a", 0.25), (7, "a", 0.5), (7, "b", -1.0)]
    before = path.read_bytes()
    assert write_events(tmp_path, [(3, scalar("a", 0.25)), (7, scalar("a", 0.5)), (7, scalar("b", -1.0))], 1234.5).read_bytes() == before
    assert len(list(LegacyEventFileLoader(str(write_events(tmp_path, [], 0.0))).Load())) == 1  # an earlier file is replaced


def test_the_name_comes_before_those_of_a_fit(tmp_path):
    from torch.utils.tensorboard import SummaryWriter

    write_events(tmp_path, [(1, scalar("a", 1.0))], 0.0)
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_scalar("a", 2.0, 1)
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names[0] == NAME and len(names) == 2
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert {e.value for e in events.Scalars("a")} == {1.0, 2.0}


def test_only_what_was_written_here_is_removed_and_only_where_asked(tmp_path):
    for folder in ("a/x", "b/x", "b/y/z"):
        (tmp_path / folder).mkdir(parents=True)
        write_events(tmp_path / folder, [], 0.0)
    (tmp_path / "a/x/events.out.tfevents.17.fit").write_text("of a fit")
    remove_events(tmp_path, "*/x")
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()) == ["a/x/events.out.tfevents.17.fit", f"b/y/z/{NAME}"]
    remove_events(tmp_path, "nowhere/*")


HOSTILE = ["a_b_c", "*a* **b**", "`x`", "[a](http://b)", "<b>x</b> <script>", "a | b", "back\\slash \\*", "&lt;b&gt; &amp; R&D", "![a](b)", "two\nlines", "tab\there"]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_is_shown_as_it_is(text):
    """By the library that TensorBoard renders its text tab with."""
    html = markdown(escaped(text), extensions=["tables"])
    shown = html.removeprefix("<p>").removesuffix("</p>")
    for entity, sign in (("&lt;", "<"), ("&gt;", ">"), ("&#124;", "|"), ("&quot;", '"'), ("&amp;", "&")):
        shown = shown.replace(entity, sign)
    assert shown == " ".join(text.split()) and "<" not in html.removeprefix("<p>").removesuffix("</p>")


def test_a_table_keeps_its_rows_and_columns_whatever_the_cells_hold():
    text = markdown_table(("a_b", "c|d"), [(x, str(k)) for k, x in enumerate(HOSTILE)])
    html = markdown(text, extensions=["tables"])
    assert text.splitlines()[:2] == ["| a\\_b | c&#124;d |", "| --- | --- |"] and len(text.splitlines()) == 2 + len(HOSTILE)
    assert html.count("<tr>") == 1 + len(HOSTILE) and html.count("<th>") == 2 and html.count("<td>") == 2 * len(HOSTILE)
    assert markdown_table(("one",), []) == "| one |\n| --- |"
