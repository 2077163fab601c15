"""BatchNorm's statistics, counted anew. Needs torch."""

import pytest

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore")]  # those of upstream's own imports


def test_statistics_are_the_mean_of_those_of_all_batches() -> None:
    """Of the first norm against its definition, whatever the statistics were; afterwards nothing moves them."""
    import torch

    from weights.train.model import DEMO, Sam, at_size, normalise
    from weights.train.settle import count_statistics

    torch.manual_seed(2)
    sam = Sam(at_size(DEMO, 64)).eval()
    first = sam.image_encoder.patch_embed.seq[0]
    first.bn.running_mean += 3
    batches = [torch.randint(0, high, (2, 64, 64, 3), dtype=torch.uint8) for high in (50, 120, 256)]
    with torch.inference_mode():
        outputs = [first.c(normalise(images)).double() for images in batches]
    count_statistics(sam, batches)
    for found, wanted in ((first.bn.running_mean, torch.mean), (first.bn.running_var, torch.var)):
        values = torch.stack([wanted(x, (0, 2, 3)) for x in outputs]).mean(0)
        torch.testing.assert_close(found, values.float(), rtol=1e-4, atol=1e-4)
    kept = {name: value.clone() for name, value in sam.named_buffers()}
    with torch.inference_mode():
        sam.encode(normalise(batches[0]))
    assert all(torch.equal(kept[name], value) for name, value in sam.named_buffers())
    assert first.bn.momentum == 0.1
