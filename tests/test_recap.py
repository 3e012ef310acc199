"""What a later chapter re-uses must be, word for word, what the earlier one taught."""

from pathlib import Path

import lift
import pytest
import torch

from genlab_helpers import recap

TAUGHT = {
    name: (path.stem, text)
    for path in sorted(lift.NOTEBOOKS.glob("*.py"), reverse=True)
    for name, text in lift.texts(lift.source(path.stem)).items()
}
REUSED = lift.texts(Path(recap.__file__).read_text())


def test_recap_holds_the_parts_of_kmeans():
    assert {"kmeans", "best_of", "assign", "update", "plus_plus_start"} <= set(REUSED)


def test_recap_holds_the_convolutional_autoencoder_and_it_works_alone():
    assert {"ConvEncoder", "ConvDecoder", "check_shape"} <= set(REUSED)
    codes = recap.ConvEncoder(3, final_relu=True)(torch.rand(2, 1, 28, 28))
    assert codes.shape == (2, 3)
    assert recap.ConvDecoder(3)(codes).shape == (2, 1, 28, 28)
    with pytest.raises(ValueError, match="resize"):
        recap.ConvEncoder(3)(torch.rand(2, 1, 32, 32))


@pytest.mark.parametrize("name", REUSED)
def test_recap_is_word_for_word_what_was_taught(name):
    assert name in TAUGHT, f"{name} stands in recap but no chapter teaches it"
    chapter, text = TAUGHT[name]
    assert REUSED[name] == text, f"{name} differs from {chapter}: copy it again"
