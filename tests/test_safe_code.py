"""What the code may not hold (read from its syntax trees), and which versions it may run on."""

import ast
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

REPOSITORY = Path(__file__).parents[1]
MODULES = sorted((REPOSITORY / "synthrad").rglob("*.py"))
BANNED_MODULES = ("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "tarfile", "monai.bundle", "monai.apps")
BANNED_CALLS = ("eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.load", "yaml.safe_load", "yaml.unsafe_load", "yaml.full_load",
                "pandas.read_pickle", "pd.read_pickle", "torch.hub.load", "torch.jit.load", "shutil.unpack_archive")  # fmt: skip
BANNED_METHODS = ("extractall", "extract", "unsafe_load", "full_load", "read_pickle")
BANNED_WORDS = ("auto3dseg", "bind_all", "trust_remote_code")  # of names, attributes and options


def faults(source: str) -> list[str]:
    """What a module holds that it may not, with the line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        line = getattr(node, "lineno", 0)
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{a.name}" for a in node.names)]
        found += [f"{line}: imports {n}" for n in names if any(n == b or n.startswith(f"{b}.") for b in BANNED_MODULES)]
        words = [node.attr] if isinstance(node, ast.Attribute) else [node.id] if isinstance(node, ast.Name) else [node.arg or ""] if isinstance(node, ast.keyword) else names
        found += [f"{line}: {w}" for w in words for b in BANNED_WORDS if b in w.lower()]
        if isinstance(node, ast.Call):
            found += [f"{line}: {text}" for text in _call(node)]
    return found


def _call(node: ast.Call) -> list[str]:
    called, given = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
    method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    found = [called] if called in BANNED_CALLS or method in BANNED_METHODS else []
    if (called == "torch.load" or method == "load_from_checkpoint") and given.get("weights_only") != "True":
        found.append(f"{called} without weights_only=True")
    if called in ("np.load", "numpy.load") and given.get("allow_pickle", "False") != "False":
        found.append(f"{called} with allow_pickle")
    if called.startswith("subprocess.") and given.get("shell", "False") != "False":
        found.append(f"{called} through a shell")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_no_module_can_run_what_a_file_says(path):
    assert faults(path.read_text()) == []


@pytest.mark.parametrize("line", [
    "import pickle", "from pickle import loads", "from monai.bundle import ConfigParser", "import monai.apps.auto3dseg", "eval(x)", "exec(x)", "torch.load(p)",
    "torch.load(p, weights_only=False)", "M.load_from_checkpoint(p)", "np.load(p, allow_pickle=True)", "archive.extractall(d)", "archive.extract(n)", "yaml.safe_load(x)",
    "yaml.load(x, Loader=L)", "os.system(x)", "subprocess.run(x, shell=True)", "pd.read_pickle(p)", "f(trust_remote_code=True)", "args.bind_all = True",
    "def f():\n  import joblib",
])  # fmt: skip
def test_each_way_is_seen(line):
    assert faults(line)


def test_what_is_allowed_is_not_seen():
    assert faults("import json\ntorch.load(p, weights_only=True)\nnp.load(p)\nnp.load(p, allow_pickle=False)\nsubprocess.run([x])\nre.compile(x)\nmodel.eval()") == []


def declared() -> dict[str, str]:
    """Requirement -> the comment behind it, of pyproject.toml."""
    text = (REPOSITORY / "pyproject.toml").read_text()
    project = tomllib.loads(text)["project"]
    extras = [r for rs in project["optional-dependencies"].values() for r in rs]
    wanted = [r for r in [*project["dependencies"], *extras] if not r.startswith("synthrad[")]
    found = {}
    for line in wanted:
        behind = re.search(rf'"{re.escape(line)}"[\],]*\s*#\s*(.+)', text)
        found[line] = behind[1].strip() if behind else ""
    return found


@pytest.mark.parametrize(("line", "reason"), declared().items())
def test_each_dependency_has_a_least_version_and_a_reason(line, reason):
    requirement = Requirement(line)
    least = [s for s in requirement.specifier if s.operator == ">="]
    assert len(least) == 1 and len(reason) >= 5, f"{line}: a lower bound and, behind #, why it is that one"


@pytest.mark.parametrize("line", declared())
def test_what_is_installed_is_new_enough(line):
    requirement = Requirement(line)
    try:
        installed = version(requirement.name)
    except ModuleNotFoundError:
        optional = {r for rs in tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"].values() for r in rs}
        assert line in optional
        pytest.skip(f"{requirement.name} is optional and not installed")
    assert requirement.specifier.contains(installed, prereleases=True)


@pytest.mark.parametrize(("name", "least"), [("lightning", "2.6.6"), ("monai", "1.6.1"), ("torch", "2.10"), ("pydicom", "3.0.2"), ("pillow", "12.1"), ("jinja2", "3.1.6"), ("jsonargparse", "4.53")])
def test_versions_with_known_holes_are_shut_out(name, least):
    """As references name them: CVE-2026-58659, MONAI's advisories, CVE-2026-24747, CVE-2026-32711, CVE-2026-40192."""
    line = next(Requirement(r) for r in declared() if Requirement(r).name == name)
    bound = next(s.version for s in line.specifier if s.operator == ">=")
    assert [int(x) for x in bound.split(".")] >= [int(x) for x in least.split(".")]
