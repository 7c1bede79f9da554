"""A job refuses what its data cannot give, before any work."""

from pathlib import Path

import pytest

from pipeline.datasets import load_dataset
from pipeline.jobs.job import Job
from pipeline.recipe import CalibrationTable, Recipe, load_recipe
from pipeline.reporting.progress import Reporter
from pipeline.workspace import Workspace
from runtimes.errors import InputError


def job(folder: Path, images: int | None) -> Job:
    reporter = Reporter(quiet=True)
    asked = CalibrationTable(images=images)
    recipe: Recipe = load_recipe("digits").model_copy(update={"calibration": asked})
    splits = load_dataset("digits", cache=folder, reporter=reporter)
    return Job(recipe, splits, Workspace(folder), reporter)


@pytest.mark.parametrize(("images", "used"), [(50, 50), (200, 200), (None, 200)])
def test_job_calibrates_with_as_many_images_as_the_recipe_says(tmp_path, images, used):
    assert len(job(tmp_path, images).calibration) == used


def test_more_calibration_images_than_there_are_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"calibration.images = 201: .* of digits has 200"):
        job(tmp_path, 201)
