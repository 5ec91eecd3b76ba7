import hmac
from concurrent.futures import ThreadPoolExecutor

from synthrad.lineage import Fitted, Lineage, all_hashes, hash_subjects, key_id, project_key, pseudonym


def test_hashes_depend_on_key_dataset_and_subject():
    key, other = b"a" * 32, b"b" * 32
    assert hash_subjects("d", ["p1", "p1", "p2"], key) == hash_subjects("d", ["p2", "p1"], key)
    assert len(hash_subjects("d", ["p1", "p2"], key)) == 2
    sets = [
        hash_subjects("d", ["p1"], key),
        hash_subjects("e", ["p1"], key),
        hash_subjects("d", ["p1"], other),
        hash_subjects("d", ["p2"], key),
    ]
    assert len(frozenset().union(*sets)) == 4
    assert "p1" not in str(sets)


def test_the_separator_keeps_dataset_and_subject_apart():
    assert hash_subjects("ab", ["c"], b"k") != hash_subjects("a", ["bc"], b"k")


def test_a_lineage_is_the_same_for_names_and_pseudonyms_and_is_no_pseudonym():
    key, stands = b"a" * 32, [pseudonym("d", s, b"a" * 32) for s in ("p1", "p2")]
    assert hash_subjects("d", stands, key) == hash_subjects("d", ["p1", "p2"], key)
    assert pseudonym("d", stands[0], key) == stands[0] and not hash_subjects("d", ["p1", "p2"], key) & {s.removeprefix("p-") for s in stands}
    assert not hash_subjects("d", stands, b"b" * 32) & hash_subjects("d", stands, key) and pseudonym("e", "p1", key) != stands[0]


def test_lineages_of_before_pseudonyms_are_still_compared():
    key = b"a" * 32
    once = hmac.new(key, b"d\0p1", "sha256").hexdigest()[:32]  # a lineage of names, or a subject of a set that was pseudonymised
    twice = hmac.new(key, f"d\0{once}".encode(), "sha256").hexdigest()[:32]  # its lineage
    assert {once, twice} <= all_hashes("d", ["p1"], key) and {once, twice} <= all_hashes("d", [once], key)
    assert not {once, twice} & (all_hashes("d", ["p2"], key) | all_hashes("e", ["p1"], key))
    old, new = (Lineage((Fitted("generator", trained_on=h, datasets=frozenset({"d"})),)) for h in (frozenset({once}), hash_subjects("d", ["p1"], key)))
    assert old.before_pseudonyms("d") and not old.before_pseudonyms("e") and not new.before_pseudonyms("d")


def test_one_key_a_project_private_and_shared_by_racers(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: project_key(tmp_path), range(16)))
    assert len(keys) == 1 and len(keys.pop()) == 32
    assert (tmp_path / ".synthrad" / "key").stat().st_mode & 0o077 == 0
    assert [p.name for p in (tmp_path / ".synthrad").iterdir()] == ["key"]
    assert project_key(tmp_path) != project_key(tmp_path / "other")


def test_a_lineage_is_as_strong_as_its_weakest_part_and_round_trips():
    known = Fitted("generator", "d1", "known", frozenset({"a"}), frozenset({"b"}), frozenset({"f"}))
    declared = Fitted("judge", "d2", "declared", frozenset({"c"}))
    unknown = Fitted("weights", origin="unknown")
    assert Lineage().origin == "known"
    both = Lineage((known,), {"block_size": 16}) + Lineage((declared,), {"dtype": "float32"})
    assert both.origin == "declared" and (both + Lineage((unknown,))).origin == "unknown"
    assert both.trained_on() == {"a", "c"} and both.selected_on() == {"b"} and both.fingerprints() == {"f"}
    assert both.settings == {"block_size": 16, "dtype": "float32"}
    assert (both + both).fitted == both.fitted
    assert Lineage.from_dict(both.to_dict()) == both and Lineage.from_dict(None) == Lineage()


def test_a_part_hashed_with_another_key_is_of_unknown_origin():
    old, mine = Fitted("judge"), Fitted("generator", key_id=key_id(b"a"))
    assert "key_id" not in Lineage((old,)).to_dict()["fitted"][0]  # older sets keep their digest
    both = Lineage((old, mine))
    assert Lineage.from_dict(both.to_dict()) == both
    assert both.seen_with(b"a") == both and both.seen_with(b"b").origin == "unknown"
    assert Lineage((old,)).seen_with(b"b").origin == "known"
