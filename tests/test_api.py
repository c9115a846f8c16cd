"""The public names of the package."""

import pytest

import tf_mtl_privacy

EXPORTS = {
    "fit": "tf_mtl_privacy.training.fit",
    "load_run": "tf_mtl_privacy.training.saved_run",
    "evaluate_run": "tf_mtl_privacy.reporting.evaluate_run",
    "audit_run": "tf_mtl_privacy.reporting.audit_run",
    "DPAdam": "tf_mtl_privacy.privacy.optimizer",
    "DPSGD": "tf_mtl_privacy.privacy.optimizer",
    "Config": "tf_mtl_privacy.config.run",
}


def test_import_of_the_package_loads_no_tensorflow(python):
    code = (
        "import sys, tf_mtl_privacy as t; t.Config(); assert 'fit' in dir(t);"
        "assert not {'tensorflow', 'keras', 'numpy', 'absl'} & set(sys.modules), sys.modules.keys()"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", EXPORTS)
def test_export_is_the_real_object(name):
    exported = getattr(tf_mtl_privacy, name)
    assert exported.__module__ == EXPORTS[name] and exported.__name__ == name
    assert callable(exported)


def test_exports_are_complete():
    assert {*EXPORTS, "__version__"} == set(tf_mtl_privacy.__all__)
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        tf_mtl_privacy.fitt  # noqa: B018
