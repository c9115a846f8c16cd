"""Rules checked on the source: layers, import cycles, heavy imports, pickle."""

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "tf_mtl_privacy"
# Every other module directly in the package starts a command: the top layer.
LAYERS = {
    **dict.fromkeys(
        (
            "config",
            "serving_signature",
            "types",
            "errors",
            "files",
            "progress",
            "rounding",
            "start_files",
            "tf_loading",
        ),
        0,
    ),
    **dict.fromkeys(("data", "models", "privacy", "removal"), 1),
    "training": 2,
    "evaluation": 3,
    **dict.fromkeys(("export", "reporting", "serving"), 4),
    "cli": 5,
}
TOP_LAYER = 5
HEAVY = {"tensorflow", "keras", "tf_keras", "tensorflow_privacy", "tensorflow_datasets"}
# Modules of `data` that decode pictures, or import tensorflow-datasets.
DECODERS = {"preprocess", "tfds"}
PICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def sources(root: Path) -> dict[str, Path]:
    """Module name -> file, for every module of the package under `root`."""
    result = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        result[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return result


def layer_of(module: str, files: dict[str, Path]) -> int:
    parts = module.split(".")
    if len(parts) == 1 or parts[-1] == "__main__":
        return TOP_LAYER
    if parts[1] in LAYERS:
        return LAYERS[parts[1]]
    assert len(parts) == 2 and files[module].name != "__init__.py", (
        f"folder {parts[1]} has no layer: add it to LAYERS"
    )
    return TOP_LAYER


def imports(module: str, files: dict[str, Path], top_level: bool = False) -> set[str]:
    """Names of the modules it imports, ours resolved to modules; `top_level` skips functions."""
    tree = ast.parse(files[module].read_text(encoding="utf-8"))
    package = module if files[module].name == "__init__.py" else module.rpartition(".")[0]
    result: set[str] = set()
    for node in _nodes(tree, top_level):
        if isinstance(node, ast.Import):
            result |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [base])])
            names = {f"{base}.{alias.name}" for alias in node.names}
            result |= {name if name in files else base for name in names}
    return result - {module}


def _nodes(tree: ast.AST, top_level: bool):
    for child in ast.iter_child_nodes(tree):
        if top_level and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        # Imports under `if TYPE_CHECKING` do not run.
        if top_level and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _nodes(child, top_level)


def upward_imports(files: dict[str, Path]) -> list[str]:
    return [
        f"{module} (layer {layer_of(module, files)}) imports {name} (layer {layer_of(name, files)})"
        for module in files
        for name in sorted(imports(module, files))
        if name in files and name != PACKAGE and layer_of(name, files) > layer_of(module, files)
    ]


def with_packages(module: str, files: dict[str, Path]) -> set[str]:
    """Modules that importing `module` runs first, packages around the imported ones included."""
    names = imports(module, files, top_level=True) & set(files)
    around = {name[:place] for name in names for place in range(len(name)) if name[place] == "."}
    # Packages around the module itself are being imported already.
    own = {package for package in around | names if module.startswith(package + ".")}
    return (names | around) & set(files) - own - {module}


def cycle(files: dict[str, Path], imported: Callable[..., set[str]] = imports) -> list[str]:
    """One cycle of imports, or an empty list."""
    graph = {module: sorted(imported(module, files) & set(files)) for module in files}
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        for name in graph[module]:
            if result := walk(name, [*path, module]):
                return result
        done.add(module)
        return []

    return next((result for module in graph if (result := walk(module, []))), [])


def loaded_by(module: str, files: dict[str, Path]) -> dict[str, str]:
    """Modules that importing `module` loads -> their importer, parents' __init__ included."""
    loaded: dict[str, str] = {}
    waiting = [(module, "")]
    while waiting:
        name, asker = waiting.pop()
        if name in loaded:
            continue
        loaded[name] = asker
        waiting += [(name.rpartition(".")[0], name)] if "." in name else []
        if name in files:
            waiting += [(other, name) for other in imports(name, files, top_level=True)]
    return loaded


def plant(root: Path, modules: dict[str, str]) -> dict[str, Path]:
    """Writes a small package of the same name: path inside it -> text."""
    for name, text in modules.items():
        path = root / PACKAGE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return sources(root)


FILES = sources(ROOT)
LIGHT = [
    module
    for module in FILES
    if layer_of(module, FILES) in (0, TOP_LAYER)
    or "accounting" in module
    # Commands check folders and open stores before they load TensorFlow.
    or (module.startswith(f"{PACKAGE}.data") and module.rpartition(".")[2] not in DECODERS)
]


def test_modules_import_from_their_own_or_a_lower_layer():
    assert len(FILES) > 20
    assert upward_imports(FILES) == []


def test_imports_have_no_cycle():
    assert cycle(FILES) == []


def test_imports_have_no_cycle_through_the_packages_around_modules():
    assert cycle(FILES, with_packages) == []


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_import_no_tensorflow(module):
    heavy = {
        name: asker
        for name, asker in loaded_by(module, FILES).items()
        if name.split(".")[0] in HEAVY
    }
    assert heavy == {}, "import it inside the function that needs it"


def test_tensorflow_privacy_is_imported_by_one_module():
    users = {
        module
        for module in FILES
        if any(name.split(".")[0] == "tensorflow_privacy" for name in imports(module, FILES))
    }
    assert users <= {f"{PACKAGE}.privacy.tfp"}


def test_flags_are_defined_by_one_module():
    definers = {
        module
        for module, path in FILES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.Attribute, ast.Name))
        and str(getattr(node, "attr", getattr(node, "id", ""))).startswith("DEFINE")
    }
    assert definers == {f"{PACKAGE}.cli.flags"}


def pickling(path: Path) -> list[str]:
    """Uses of pickle, or of a loader's option that allows it, as `file:line`."""
    result = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *[f"{node.module}.{alias.name}" for alias in node.names]]
        unsafe = isinstance(node, ast.keyword) and (
            (node.arg == "allow_pickle" and getattr(node.value, "value", True) is not False)
            or (node.arg == "safe_mode" and getattr(node.value, "value", False) is not True)
        )
        if unsafe or any(name.split(".")[0] in PICKLERS for name in names):
            result.append(f"{path.name}:{getattr(node, 'lineno', 0)}")
    return result


def test_nothing_is_loaded_through_pickle():
    assert [use for path in FILES.values() for use in pickling(path)] == []


def test_checks_planted_violations_are_found(tmp_path):
    files = plant(
        tmp_path,
        {
            "__init__.py": "",
            "types.py": "def f():\n    from tf_mtl_privacy.training import loop\n",
            "training/loop.py": "from . import steps",
            "training/steps.py": "def f():\n    from .loop import run\n",
            "data/store.py": "import pickle\nx = np.load('a', allow_pickle=True)\n",
            "privacy/__init__.py": "from tf_mtl_privacy.privacy import optimizer",
            "privacy/optimizer.py": "import tensorflow as tf",
            "privacy/accounting.py": "import math",
            "models/__init__.py": "from tf_mtl_privacy.models.bundle import build",
            "models/bundle.py": "import tf_mtl_privacy.removal.mask",
            "models/layers.py": "",
            "removal/mask.py": "from tf_mtl_privacy.models.layers import cells",
            "cli/main.py": "def main():\n    import tensorflow\n",
        },
    )
    assert len(upward_imports(files)) == 1 and "types" in upward_imports(files)[0]
    assert set(cycle(files)) == {f"{PACKAGE}.training.loop", f"{PACKAGE}.training.steps"}
    through = cycle(files, with_packages)
    assert f"{PACKAGE}.models" in through and f"{PACKAGE}.removal.mask" in through
    assert len(pickling(files[f"{PACKAGE}.data.store"])) == 2
    # Imported by the folder's __init__, not by the module itself.
    assert "tensorflow" in loaded_by(f"{PACKAGE}.privacy.accounting", files)
    assert "tensorflow" not in loaded_by(f"{PACKAGE}.cli.main", files)
