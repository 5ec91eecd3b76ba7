"""Floors of the design: a module imports lower floors and its own folder, nothing else; no cycles; no grab-bag names."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "synthrad"
FLOORS = {
    **dict.fromkeys(["errors", "files", "dataset_info", "manifest_table", "seals", "records", "lineage", "conditioning", "class_paths", "checkpoints", "documents", "progress", "run_log", "cases", "measurements", "locking", "blocks", "swap"], 0),
    **dict.fromkeys(["data", "fusion", "nets", "gan", "diffusion", "metrics", "statistics"], 1),
    **dict.fromkeys(["generators", "tasks", "datamodules", "callbacks"], 2),
    **dict.fromkeys(["prepare", "sample", "sampling", "preview", "score", "filter", "audit", "study", "doctor", "dataset"], 3),
    **dict.fromkeys(["cli", "config_names", "config_errors", "config_links", "__main__", "__init__"], 4),
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(p for p in parts if p != "__init__")


NAMES = {name_of(p) for p in MODULES}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:  # `from synthrad.fusion import cells` imports the module, not what the folder re-exports
                full = f"{node.module}.{alias.name}"
                found.add(full if full in NAMES else node.module)
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_down(path):
    here = room(name_of(path))
    assert here in FLOORS, f"{path}: no floor for {here!r}"
    for target in imports(path):
        if target.split(".")[0] != "synthrad" or target == "synthrad":
            continue
        there = room(target)
        if there == here:
            continue
        assert FLOORS[there] <= FLOORS[here], f"{path} imports {target}, a higher floor"
        if FLOORS[there] == FLOORS[here] and FLOORS[here] in (1, 2):
            raise AssertionError(f"{path} imports {target}: folders of floor {FLOORS[here]} never import each other")
    if FLOORS[here] <= 1:
        assert not any(t.split(".")[0] == "lightning" for t in imports(path)), f"{path}: Lightning below floor 2"


def test_no_cycles():
    edges = {name_of(p): {t for t in imports(p) if t.startswith("synthrad.")} for p in MODULES}
    state: dict[str, int] = {}

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if state.get(name) == 2 or name not in edges:
            return
        assert state.get(name) != 1, f"cycle: {' -> '.join((*trail, name))}"
        state[name] = 1
        for target in edges[name]:
            if target != name:
                visit(target, (*trail, name))
        state[name] = 2

    for name in edges:
        visit(name, ())


def test_names_say_what_they_are():
    for path in MODULES:
        assert path.stem not in ("utils", "util", "common", "helpers", "core", "misc"), path


def test_no_relatives_of_pickle_or_eval():
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec", "pickle.load", "pickle.loads"), f"{path}:{node.lineno}: {called}"
                if called in ("torch.load", "load_from_checkpoint") or called.endswith(".load_from_checkpoint"):
                    given = {k.arg: ast.unparse(k.value) for k in node.keywords}
                    assert given.get("weights_only") == "True", f"{path}:{node.lineno}: weights_only=True is missing"
