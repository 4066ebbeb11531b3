"""Packaging of AdaPruner-Det. Detectron2 is not on the registry: tools/install_detectron2.py."""

from pathlib import Path

from setuptools import find_packages, setup

README = Path(__file__).with_name("README.md")

# Each with its reason: docs/dependencies.md.

# Imported by adapruner_det itself.
OWN = [
    "torch>=2.6",
    "torchvision>=0.21",
    "numpy>=2.0",
    "Pillow>=10.0",
    "PyYAML>=6.0",
    "Jinja2>=3.1",
    "fvcore>=0.1.5.post20221221,<0.1.6",
    "matplotlib>=3.8",
    "omegaconf>=2.3,<2.4",
    "openTSNE>=1.0.2",
    "pycocotools>=2.0.8",
    "scikit-learn>=1.4",
    "scipy>=1.13",
    "tabulate>=0.9",
    "threadpoolctl>=3.1",
    "tqdm>=4.60",
]

# What Detectron2, v0.6 and main alike, needs besides at run time. The registry has no Detectron2
# that could ask for it.
DETECTRON2 = [
    "black>=24.1",  # LazyConfig.to_py
    "cloudpickle>=2.0",
    "hydra-core>=1.3",
    "iopath>=0.1.9,<0.2",
    "opencv-python-headless>=4.10",
    "packaging>=21.0",
    "tensorboard>=2.15",
    "termcolor>=2.0",
    "yacs>=0.1.8",
]

# To send the cells of a comparison to a cluster.
SLURM = ["submitit>=1.5"]

# To find the neighbours among very many samples.
FAISS = ["faiss-cpu>=1.9"]

# What the method of the same name asks.
CLEANLAB = ["cleanlab>=2.9"]

# To test the page of a report in a browser, which has to be there besides.
BROWSER = ["playwright>=1.45"]

DEV = [
    "build>=1.0",
    "hypothesis>=6.100",
    "mypy>=1.11",
    "pytest>=8.0",
    "pytest-xdist>=3.5",
    "ruff>=0.9",
    "setuptools>=77",
    "wheel>=0.43",
]

# What --config-file finds without a checkout.
CONFIGS = {
    "adapruner_det.configs": "configs",
    "adapruner_det.configs.classification": "configs/classification",
    "adapruner_det.configs.grids": "configs/grids",
}

setup(
    name="adapruner-det",
    version="0.1.0",
    description="Adaptive data pruning: train a detector or a classifier on the images it needs",
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    packages=[*find_packages(include=["adapruner_det", "adapruner_det.*"]), *CONFIGS],
    package_dir=CONFIGS,
    package_data={  # py.typed goes along by itself
        **{name: ["*.yaml"] for name in CONFIGS},
        "adapruner_det.report": ["templates/*", "templates/script/*"],
    },
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10,<3.14",
    install_requires=OWN + DETECTRON2,
    extras_require={
        "browser": BROWSER,
        "cleanlab": CLEANLAB,
        "dev": DEV,
        "faiss": FAISS,
        "slurm": SLURM,
    },
    entry_points={"console_scripts": ["adapruner = adapruner_det.cli:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: Console",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
)
