"""One engine for a range of batches: an optimisation profile, as every release takes it."""

import numpy as np
import pytest
from fake_sdks import FAKES, TENSORRT, fake_tensorrt
from small_networks import reference, run

from runtimes import base
from runtimes.errors import InputError
from runtimes.inputs import seeded


@pytest.fixture
def fake(request, monkeypatch, tmp_path):
    monkeypatch.setenv("SHOAL_CACHE", str(tmp_path / "cache"))
    with fake_tensorrt(monkeypatch, *getattr(request, "param", FAKES[0])) as fake:
        yield fake


@pytest.mark.parametrize("fake", FAKES[:4], indirect=True, ids=TENSORRT)
def test_an_engine_takes_the_range_of_batches_that_a_setting_gives(fake, make_network):
    path = make_network(batch="n", size=8)

    session = base.make("trt", "gpu", {"batches": "1:32"}).load(
        path, threads=1, inputs=seeded(batch=4)
    )
    session.run()

    (build,) = fake.trt.builds
    assert build["shapes"] == {"image": tuple((n, 3, 8, 8) for n in (1, 4, 32))}
    assert session.identity()["batches"] == "1:32"
    expected = reference(path, seeded(batch=4))["pooled"]
    np.testing.assert_allclose(session.outputs()["pooled"], expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("batches", "batch", "match"),
    [
        ("8:1", "n", "'8:1': give the least and the largest, as in 1:32"),
        ("32", "n", "as in 1:32"),
        ("2:32", "n", "the batch 1 is outside of 2:32"),
        ("1:32", 1, "every input of this one has a fixed one"),
    ],
)
@pytest.mark.usefixtures("fake")
def test_a_range_of_batches_that_cannot_be_is_refused(make_network, batches, batch, match):
    with pytest.raises(InputError, match=match):
        run(base.make("trt", "gpu", {"batches": batches}), make_network(batch=batch))
