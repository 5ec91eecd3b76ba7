"""Objects of YAML files: only known classes, every fault with its key."""

from dataclasses import dataclass

import pytest

from synthrad.class_paths import allowed_packages, arguments_of, build
from synthrad.errors import InputError


@dataclass
class Box:
    width: int = 1
    inner: object = None


OURS = {"shop.Box": Box}


class Crate(Box):
    def __init__(self, lid=True, width=2, **rest):
        super().__init__(width=width, **rest)


class Drawer(Crate):
    pass


def made(spec, **more):
    return build(spec, "shop.yaml", OURS, "buy", **more)


def test_stars_stand_for_the_arguments_of_the_class_that_is_extended():
    assert list(arguments_of(Drawer)) == list(arguments_of(Crate)) == ["lid", "width", "inner"]
    assert list(arguments_of(Box)) == ["width", "inner"]
    assert arguments_of(Crate)["width"] == arguments_of(Drawer)["width"] == 2 and arguments_of(Crate)["lid"] is True


def test_arguments_and_what_becomes_of_them():
    assert made({"class_path": "shop.Box"}) == Box()
    assert made({"class_path": "shop.Box", "init_args": {"width": 3}}) == Box(3)
    doubled = made({"class_path": "shop.Box", "init_args": {"inner": 3}}, value=lambda key, given, where: (key, given, where))
    assert doubled.inner == ("inner", 3, "shop.yaml: init_args.inner")


@pytest.mark.parametrize(("spec", "words"), [
    ({"class_path": "shop.Bix"}, "did you mean Box"), ({"class_path": "os.system"}, "allow-import PACKAGE buy"), (["shop.Box"], "shop.Box"),
    ({"class_path": "shop.Box", "init_arg": {}}, "did you mean init_args"), ({"class_path": "shop.Box", "init_args": {"widht": 1}}, "did you mean width"),
    ({"class_path": "shop.Box", "init_args": [1]}, "a mapping of width"), ({"class_path": "shop.Box", "init_args": {"width": "wide"}}, "init_args.width: found 'wide'; expected int"),
])  # fmt: skip
def test_faults_name_key_and_repair(spec, words):
    with pytest.raises(InputError, match=words):
        made(spec)


def test_packages_of_the_user_are_imported_only_when_allowed(monkeypatch):
    monkeypatch.setenv("SYNTHRAD_ALLOW_IMPORT", " fractions , ")
    assert allowed_packages() == ["fractions"]
    assert made({"class_path": "fractions.Fraction", "init_args": {"numerator": 1, "denominator": 2}}) == 0.5
    with pytest.raises(InputError, match="can be imported"):
        made({"class_path": "fractions.Nothing"})
    monkeypatch.setenv("SYNTHRAD_ALLOW_IMPORT", "")
    with pytest.raises(InputError, match="one of shop.Box"):
        made({"class_path": "fractions.Fraction"})
