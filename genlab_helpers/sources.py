"""Where each dataset comes from, and the digests of its files and of weights.

Plain tables without torch: `data` and `weight_files` fetch and verify with them,
and the gate compares with them what a published run says it was trained on.
"""

import hashlib
from dataclasses import dataclass

SPLITS = {"train": "train", "test": "t10k"}  # the prefix of a split's files


@dataclass(frozen=True)
class Source:
    """One dataset: its files, their digests, and what to say about it."""

    name: str
    folder: str  # inside the data folder, as torchvision lays it out
    mirrors: tuple[str, ...]  # each serves every file as NAME.gz
    files: dict[str, str]  # file name -> sha256 of the decompressed file
    classes: tuple[str, ...]  # the name of label 0, 1, ...
    licence: str
    citation: str
    homepage: str
    size: str


SOURCES = {
    "MNIST": Source(
        name="MNIST",
        folder="MNIST/raw",
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        files={
            "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738"
            "ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5"
            "333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77"
            "db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351"
            "222c34898ecbeaf847f06e48f7ec33f2",
        },
        classes=tuple("0123456789"),
        licence="CC BY-SA 3.0",
        citation="Y. LeCun, L. Bottou, Y. Bengio and P. Haffner: Gradient-based "
        "learning applied to document recognition. Proceedings of the IEEE 86(11), "
        "1998. https://doi.org/10.1109/5.726791",
        homepage="http://yann.lecun.com/exdb/mnist/",
        size="70,000 images of 28 x 28 grey values in 10 classes; 11 MB to download",
    ),
    "Fashion-MNIST": Source(
        name="Fashion-MNIST",
        folder="FashionMNIST/raw",
        mirrors=(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/"
            "master/data/fashion/",
        ),
        files={
            "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f8388776"
            "8d799fd8a3f3276145d20f83aa44d888",
            "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec29"
            "4ff4f6a2e1246121d8633921760443d9",
            "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe0"
            "87ea10ca49f1dbef5c9a5cd8815ce37b",
            "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494"
            "c5af83dab82d92729df917d7dec38c34",
        },
        classes=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        licence="MIT",
        citation="H. Xiao, K. Rasul and R. Vollgraf: Fashion-MNIST: a novel image "
        "dataset for benchmarking machine learning algorithms. 2017. "
        "https://doi.org/10.48550/arXiv.1708.07747",
        homepage="https://github.com/zalandoresearch/fashion-mnist",
        size="70,000 images of 28 x 28 grey values in 10 classes; 30 MB to download",
    ),
}

WEIGHTS = {  # file -> its sha256, or those first 8 digits of it that are published
    # S. Han et al.: Deep Compression. https://doi.org/10.48550/arXiv.1510.00149. BSD
    "squeezenet1_0_deepcompression.pt": "9dadddcab08cb589dce65f3b6bbe9610"
    "4ae0cdb62c4afab24be4f961c19f8af5",
    # https://pytorch.org/vision/stable/models.html. BSD
    "squeezenet1_0-b66bff10.pth": "b66bff10",
    # K. Simonyan and A. Zisserman's own: https://doi.org/10.48550/arXiv.1409.1556.
    # CC BY 4.0
    "vgg19_features_conv1_1-conv3_4.pt": "096dd44369c1f7c3370654f0cf89871b"
    "3056bd21729a1dcc916ec7b32a6722e5",
    "vgg19-dcbb9e9d.pth": "dcbb9e9d",
}

# What a published run may use besides SOURCES: pictures and weights, as the name and
# split that it notes -> every sha256 (or published beginning) that is known to be real.
VOUCHED: dict[tuple[str, str], tuple[str, ...]] = {
    ("CelebA", "train"): (  # the first 10,000, from the edition of 89 x 109 pixels
        "5f3060b9a0a4507016c5be28dd2ce600dc689ae009082a7366fd4b156ad49230",  # side 64
        "f550712a07c52f21d13c80d842c3bc0dd036bef4a7d29de12b9b62914e587ee2",  # side 128
    ),
    ("SqueezeNet 1.0", "weights"): (
        WEIGHTS["squeezenet1_0_deepcompression.pt"],
        WEIGHTS["squeezenet1_0-b66bff10.pth"],
    ),
    ("VGG19", "weights"): (
        WEIGHTS["vgg19_features_conv1_1-conv3_4.pt"],
        WEIGHTS["vgg19-dcbb9e9d.pth"],
    ),
    # Photographs as scikit-image 0.25.2 ships them; paintings from Wikimedia Commons.
    ("astronaut", "content"): (
        "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    ),
    ("chelsea", "content"): (
        "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
    ),
    ("coffee", "content"): (
        "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
    ),
    ("rocket", "content"): (
        "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
    ),
    ("great_wave", "style"): (
        "14bcf58a39b7095168f27756d76d0c615bb8954acc5eae9e62c66a9684c2ee2b",
    ),
    ("kandinsky_composition_vii", "style"): (
        "8f992ed4aecd6dd56972d7bc8166761de7c94e670ee6effa8fd05f3daeb33409",
    ),
    ("shipwreck_turner", "style"): (
        "4f7cf34e3cd4a5daaf3f421f059ca9a01aaa2a3afd7243d6670c9c8bc001a213",
    ),
    ("starry_night", "style"): (
        "c31741a09141c2e2d07fc7aa6bdf135c369b804f9433e43fa3ceac19386d1ee6",
    ),
    ("the_scream", "style"): (
        "f3075cddeb974a9ee1d6418f7f33fd05185a7ac7dcb4288bd2805d499a9dcaee",
    ),
}


def split_files(name: str, split: str) -> tuple[str, str]:
    """Return the names of a split's images file and labels file.

    Raises:
        ValueError: for an unknown dataset or split.
    """
    if name not in SOURCES:
        raise ValueError(f"no dataset {name!r}; known are {', '.join(SOURCES)}")
    if split not in SPLITS:
        raise ValueError(f"no split {split!r} of {name}; use 'train' or 'test'")
    prefix = SPLITS[split]
    return f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"


def digest(name: str, split: str) -> str:
    """Return the one sha256 (64 hex digits) that stands for a real split.

    It is the sha256 of the hex digests of its images file and its labels file,
    written one after the other.

    Raises:
        ValueError: for an unknown dataset or split.
    """
    files = SOURCES[name].files if name in SOURCES else {}
    both = "".join(files[file] for file in split_files(name, split))
    return hashlib.sha256(both.encode()).hexdigest()
