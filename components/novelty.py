"""Does an image look like those that a model learnt from? A model answers foreign images too, and sounds sure.

An image is described by a few statistics of its light, colour and texture, at the scale at which networks
see it. It is familiar if training images lie about as close to it as they lie to each other; how close is
close enough is set on validation images, so that a stated share of them would be refused. NumPy and Pillow
alone, because serving does the same as the evaluation that sets the bound.
"""

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from components.errors import IntegrityError
from components.imaging import TEXTURE_SIDE, Pixels, as_picture
from components.settings import FALSE_ABSTAIN

Floats = NDArray[np.float64]

NOVELTY_FILE = "novelty.npz"
# More training images than this change nothing but the cost of an answer.
MOST_REFERENCES = 2000
MOST_NOVELTY = 1000.0

# Below this many pixels on the shorter side, after shrinking, there is no texture to speak of.
_LEAST_SIDE = 32
_OCTAVES = 5
_SPARSE_OCTAVES = 3
_ANISOTROPIC_OCTAVE = 2
_COLOUR_SIDE = 96
_BLOCK = 4
# Nearest training images that count, and those of them that tell how far apart neighbours lie.
_NEAREST, _NEIGHBOURS = 3, 5
_LEAST_RADIUS = 0.5
# Where validation images are like the training images, the bound is 0.95 to 1.5 times what those reach.
_WIDEST = 2.0


class _Trait(NamedTuple):
    """One statistic.

    Attributes:
        less: How an image is that has less of it than others; ``more`` likewise.
        slack: A change of it that never matters.
        light: By how much it grows when the light does by ``_LIGHT``, another change that never matters.
    """

    name: str
    less: str
    more: str
    slack: float
    light: float = 0.0


_LIGHT = 0.07
# What the logarithms below grow by, and the mean level of a picture of usual brightness.
_LIFT, _SHINE = 2 * math.log2(1 + _LIGHT), 128 * _LIGHT / 16


# In the order in which they are named to a person: what can be mended first.
_TRAITS = (
    _Trait("brightness", "darker", "brighter", 0.3, _SHINE),
    _Trait("clipping", "less clipped", "more clipped to black or white", 0.3),
    _Trait("red", "less red", "redder", 0.25),
    _Trait("blue", "less blue", "bluer", 0.25),
    _Trait("colourfulness", "less colourful", "more colourful", 0.4),
    # What JPEG and another export's size change most: cells show in the coarser octaves too.
    _Trait("detail 1", "blurrier", "noisier or richer in fine detail", 2.0, _LIFT),
    _Trait("detail 2", "blurrier", "richer in fine detail", 0.12, _LIFT),
    _Trait("detail 4", "poorer in coarse detail", "richer in coarse detail", 0.12, _LIFT),
    _Trait("detail 8", "poorer in the coarsest detail", "richer in the coarsest detail", 0.12, _LIFT),
    _Trait("detail 16", "more even across the picture", "more uneven across the picture", 0.12, _LIFT),
    _Trait("spread 1", "sparser in its finest detail", "fuller of noise", 1.0),
    _Trait("spread 2", "sparser in its fine detail", "fuller of even grain", 0.12),
    _Trait("spread 4", "sparser in its detail", "fuller of even detail", 0.12),
    _Trait("smoothest", "smoother where it is smoothest", "rougher where it is smoothest", 0.12, _LIFT),
    _Trait("middle", "smoother", "rougher", 0.12, _LIFT),
    _Trait("roughest", "smoother where it is roughest", "rougher where it is roughest", 0.12, _LIFT),
    _Trait("direction", "less streaked", "more streaked in one direction", 0.12),
    _Trait("contrast", "flatter in contrast", "harder in contrast", 0.12, _LIFT),
    _Trait("skew", "richer in dark details", "richer in bright details", 0.12),
    _Trait("shape", "less elongated in its shape", "more elongated in its shape", 0.5),
)
TRAITS = tuple(trait.name for trait in _TRAITS)
_SLACK: Floats = np.array([trait.slack for trait in _TRAITS])
_GAIN: Floats = np.array([trait.light for trait in _TRAITS])
# Covariance of the changes that never matter.
INDIFFERENT: Floats = np.diag(_SLACK**2) + np.outer(_GAIN, _GAIN)


class Difference(NamedTuple):
    """How images differ from others: the trait's name, by how much, and what a person would say of them."""

    trait: str
    size: float
    words: str


class Verdict(NamedTuple):
    """How unlike the training images an image is.

    Attributes:
        novelty: 1 is the bound; above it the model should abstain. Finite, at most ``MOST_NOVELTY``.
        note: Above the bound, a sentence that names what is most unusual.
    """

    novelty: float
    note: str | None


def describe(image: Pixels) -> Floats:
    """Give an image's statistics, one for each of ``TRAITS``, on scales where 1 is a marked difference.

    Flips and a swap of rows and columns hardly change them, nor does the size of the same picture's export
    above ``TEXTURE_SIDE``.

    Args:
        image: RGB, shape (height, width, 3), or a picture.
    """
    picture = as_picture(image)
    green, (width, height) = _shrunk(picture), picture.size
    brightness, clipping, contrast, skew = _light(green)
    shape = 4 * abs(math.log2(width / height))
    return np.array([brightness, clipping, *_colour(picture), *_details(green), contrast, skew, shape])


class Familiar:
    """What a model's training images look like, and how far from them is too far.

    Args:
        references: Descriptions of training images, shape (N, D).
        whitening: What descriptions are multiplied with, so that distances between neighbours are alike, (D, D).
        radii: How far each reference is from its neighbours, (N,).
        threshold: Distance, in radii, above which an image is foreign.
        rate: Share of familiar images that are held to be foreign, as the threshold promises.
        calibrated_on: Validation images that the threshold was set on.
    """

    def __init__(
        self, references: Floats, whitening: Floats, radii: Floats, threshold: float, rate: float, calibrated_on: int
    ) -> None:
        self._references, self._whitening, self._radii = references, whitening, radii
        self._placed = references @ whitening
        self._squares = (self._placed**2).sum(axis=1)
        self.threshold, self.rate, self.calibrated_on = threshold, rate, calibrated_on

    @classmethod
    def fit(cls, train: Floats, validation: Floats, *, false_abstain: float = FALSE_ABSTAIN) -> Self:
        """Learn what is familiar.

        Args:
            train: Descriptions of training images, shape (N, D).
            validation: Descriptions of images that the model did not learn from, (M, D).
            false_abstain: Share of images like the validation images that may be held to be foreign. With too
                few of them to promise it, ``rate`` is 1 / (M + 1): the bound is their highest score. Where they
                are nothing like the training images, that bound would let everything pass: it ends at
                ``_WIDEST`` times what training images reach themselves, and ``rate`` is what is measured.

        Raises:
            ValueError: if there are no training or no validation images.
        """
        if len(train) == 0 or len(validation) == 0:
            raise ValueError("what is familiar is learnt from training images and bounded on validation images")
        references = np.asarray(train, np.float32).astype(np.float64)
        whitening = _whitening(references)
        found = cls(references, whitening, _radii(references @ whitening), 1.0, false_abstain, len(validation))
        scores = np.sort([found._score(each) for each in validation])
        rank = math.ceil((len(scores) + 1) * (1 - false_abstain))
        if rank > len(scores):
            found.rate, rank = 1 / (len(scores) + 1), len(scores)
        wanted, most = float(scores[rank - 1]), found._most()
        if wanted > most:
            found.rate = float((scores > most).sum() + 1) / (len(scores) + 1)
        # Whoever lies as near to a reference as its neighbours do is never foreign.
        found.threshold = max(1.0, min(wanted, most))
        return found

    def judge(self, image: Pixels, description: Floats | None = None) -> Verdict:
        """Tell whether an image looks like the training images.

        Args:
            image: RGB, shape (height, width, 3), or a picture.
            description: What ``describe`` gave for it, where that is known already.
        """
        picture = as_picture(image)
        width, height = picture.size
        if min(height, width) * min(1.0, TEXTURE_SIDE / max(height, width)) < _LEAST_SIDE:
            return Verdict(MOST_NOVELTY, f"the image is {width} x {height} pixels, too small or too narrow to judge")
        if _is_plain(picture):
            return Verdict(MOST_NOVELTY, "the image is of one colour throughout and shows nothing")
        return self.judge_description(describe(picture) if description is None else description)

    def judge_description(self, description: Floats) -> Verdict:
        """Tell it of an image that ``describe`` has described."""
        novelty = min(self._score(description) / self.threshold, MOST_NOVELTY)
        return Verdict(novelty, self._note(description) if novelty > 1 else None)

    def write(self, path: Path) -> None:
        """Write it as a file of the bundle; equal content gives equal bytes."""
        np.savez(
            path,
            traits=np.array(TRAITS),
            references=self._references.astype(np.float32),
            whitening=self._whitening,
            radii=self._radii,
            bound=np.array([self.threshold, self.rate, self.calibrated_on]),
        )

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read it back.

        Raises:
            IntegrityError: if the file is missing, damaged, or describes images by other statistics.
        """
        try:
            # Opened here: NumPy leaves a file open in which it finds no archive.
            with path.open("rb") as stored, np.load(stored, allow_pickle=False) as file:
                held = {name: file[name] for name in ("traits", "references", "whitening", "radii", "bound")}
            _check(held)
        except (OSError, ValueError, KeyError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
            raise IntegrityError(
                f"{path} does not tell what the model's training images look like ({error}); download the model again"
            ) from error
        threshold, rate, calibrated_on = held["bound"].tolist()
        references = held["references"].astype(np.float64)
        return cls(references, held["whitening"], held["radii"], threshold, rate, int(calibrated_on))

    def _most(self) -> float:
        """Give the widest bound, from the score that each reference would have if it were none."""
        count = len(self._references)
        if count <= _NEAREST:
            return math.inf
        squares = self._squares[:, np.newaxis] + self._squares - 2 * self._placed @ self._placed.T
        distances = np.sqrt(np.maximum(squares, 0)) / self._radii
        np.fill_diagonal(distances, np.inf)
        scores = np.partition(distances, _NEAREST - 1)[:, :_NEAREST].mean(axis=1)
        return _WIDEST * float(np.quantile(scores, 1 - FALSE_ABSTAIN))

    def _score(self, description: Floats) -> float:
        distances = self._distances(description)
        nearest = min(_NEAREST, len(distances))
        return float(np.partition(distances, nearest - 1)[:nearest].mean())

    def _distances(self, description: Floats) -> Floats:
        """Give the distance to each reference, in its radius, shape (N,)."""
        place = description @ self._whitening
        squares = self._squares + place @ place - 2 * (self._placed @ place)
        result: Floats = np.sqrt(np.maximum(squares, 0)) / self._radii
        return result

    def _note(self, description: Floats) -> str:
        nearest = np.argsort(self._distances(description), kind="stable")[:_NEIGHBOURS]
        differences = (description - self._references[nearest].mean(axis=0)) / _usual(self._references)
        # Much changes together: of what is about as unusual as the most unusual, the first is named.
        named = int((np.abs(differences) >= np.abs(differences).max() / 2).argmax())
        words = in_words(named, float(differences[named])).words
        return f"the image is far {words} than the images that the model learnt from"


def standardised(description: Floats, references: Floats) -> Floats:
    """Give how far a description, shape (D,), lies from the mean of others, (N, D), in what they usually differ by."""
    result: Floats = (description - references.mean(axis=0)) / _usual(references)
    return result


def in_words(trait: int, difference: float) -> Difference:
    """Tell how an image is that differs from others in one of ``TRAITS``."""
    words = _TRAITS[trait].more if difference > 0 else _TRAITS[trait].less
    return Difference(TRAITS[trait], difference, words)


def _usual(references: Floats) -> Floats:
    """Give the standard deviation of each trait, and what never matters besides."""
    result: Floats = np.sqrt(references.var(axis=0) + _SLACK**2 + _GAIN**2)
    return result


def _whitening(references: Floats) -> Floats:
    """Give the transform after which neighbours differ by about 1 in every direction.

    The spread of neighbours, not that of all images: where training images come from several laboratories,
    the way from one to the other says nothing about what either of them would call unusual.
    """
    scaled = references / _usual(references)
    neighbours = _nearest(scaled)
    steps = (references[:, np.newaxis] - references[neighbours]).reshape(-1, references.shape[1])
    spread = steps.T @ steps / max(1, len(steps)) + INDIFFERENT
    values, vectors = np.linalg.eigh(spread)
    result: Floats = vectors / np.sqrt(values)
    return result


def _radii(placed: Floats) -> Floats:
    neighbours = _nearest(placed)
    if neighbours.shape[1] == 0:
        return np.full(len(placed), math.sqrt(placed.shape[1]))
    radii = np.sqrt(((placed[:, np.newaxis] - placed[neighbours]) ** 2).sum(axis=2)).mean(axis=1)
    result: Floats = np.maximum(radii, max(_LEAST_RADIUS, float(np.median(radii)) / 2))
    return result


def _nearest(points: Floats) -> NDArray[np.intp]:
    """Give the indexes of each point's nearest others, shape (N, up to ``_NEIGHBOURS``)."""
    squares = (points**2).sum(axis=1)
    distances = squares[:, np.newaxis] + squares - 2 * points @ points.T
    np.fill_diagonal(distances, np.inf)
    return np.argsort(distances, axis=1, kind="stable")[:, : min(_NEIGHBOURS, len(points) - 1)]


def _is_plain(picture: Image.Image) -> bool:
    # A sample of the pixels settles it for nearly every image.
    return all(low == high for part in (_sample(picture, 16), picture) for low, high in _extrema(part))


def _extrema(picture: Image.Image) -> Iterator[tuple[int, int]]:
    for band in range(3):
        low, high = picture.getchannel(band).getextrema()
        yield int(low), int(high)  # type: ignore[arg-type]


def _sample(picture: Image.Image, step: int) -> Image.Image:
    """Give every so manieth pixel of every so manieth row."""
    size = -(-picture.width // step), -(-picture.height // step)
    start = (1 - step) / 2  # from the middle of a place to the middle of its first pixel
    return picture.transform(size, Image.Transform.AFFINE, (step, 0, start, 0, step, start), Image.Resampling.NEAREST)


def _shrunk(picture: Image.Image) -> Image.Image:
    """Give the green channel at about ``TEXTURE_SIDE`` on its longer side; it costs a third of the grey levels."""
    green = picture.getchannel("G")
    factor = int(max(green.size) / (0.95 * TEXTURE_SIDE))
    if factor > 1:
        green = green.reduce(factor)
    if (longer := max(green.size)) > 1.05 * TEXTURE_SIDE:
        green = green.resize(_sides(green, TEXTURE_SIDE / longer), Image.Resampling.BOX)
    if min(green.size) < _LEAST_SIDE:
        green = green.resize(_sides(green, 1.0, least=_LEAST_SIDE), Image.Resampling.NEAREST)
    return green


def _sides(image: Image.Image, scale: float, least: int = 1) -> tuple[int, int]:
    width, height = (max(least, round(side * scale)) for side in image.size)
    return width, height


def _light(green: Image.Image) -> tuple[float, float, float, float]:
    counts = np.array(green.histogram(), np.float64)
    shares, levels = counts / counts.sum(), np.arange(256)
    mean = float(shares @ levels)
    deviation = math.sqrt(shares @ (levels - mean) ** 2)
    low, middle, high = (int(each) for each in np.searchsorted(shares.cumsum(), (0.02, 0.5, 0.98)))
    clipped = max(float(shares[:3].sum()), float(shares[-3:].sum()))
    skew = 4 * (high + low - 2 * middle) / (high - low + 8)
    return mean / 16, 4 * math.sqrt(clipped), 2 * math.log2(deviation + 1), skew


def _colour(picture: Image.Image) -> list[float]:
    step = max(1, max(picture.size) // _COLOUR_SIDE)
    sample = np.asarray(_sample(picture, step)).reshape(-1, 3).astype(np.float32)
    red, blue = sample[:, 0] - sample[:, 1], sample[:, 2] - sample[:, 1]
    return [float(red.mean()) / 8, float(blue.mean()) / 8, math.log2(float(red.std() + blue.std()) + 1)]


def _details(green: Image.Image) -> list[float]:
    """Give how much the levels change from pixel to pixel, octave by octave, and how that is spread."""
    bands, spreads, blocks, streaks = [], [], [0.0] * 3, 0.0
    for octave in range(_OCTAVES):
        level = green.reduce(2**octave) if octave else green
        across, down = _steps(np.asarray(level).astype(np.int16), every=1 if octave else 2)
        powers = float(np.vdot(across, across)) / across.size, float(np.vdot(down, down)) / down.size
        change = math.sqrt(sum(powers) / 2)
        bands.append(2 * math.log2(change + 0.25))
        if octave < _SPARSE_OCTAVES:
            usual = float(np.abs(across).mean() + np.abs(down).mean()) / 2
            spreads.append(4 * math.log2((usual + 0.25) / (change + 0.25)))
        if octave == 1:
            blocks = _blocks(np.asarray(level))
        if octave == _ANISOTROPIC_OCTAVE:
            streaks = abs(math.log2((powers[0] + 0.25) / (powers[1] + 0.25)))
    return [*bands, *spreads, *blocks, streaks]


def _steps(levels: NDArray[np.int16], every: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Give differences of neighbours in a row and in a column, of every so many rows."""
    across = levels[::every, 1:] - levels[::every, :-1]
    down = levels[1::every][: len(levels[:-1:every])] - levels[:-1:every]
    return across.astype(np.float32).ravel(), down.astype(np.float32).ravel()


def _blocks(levels: NDArray[np.uint8]) -> list[float]:
    """Give the local contrast of small blocks: of the smoothest, the middle and the roughest ones."""
    rows, columns = (side // _BLOCK for side in levels.shape)
    cut = levels[: rows * _BLOCK, : columns * _BLOCK].astype(np.float32)
    mean = _block_means(cut)
    variance = np.maximum(_block_means(cut * cut) - mean * mean, 0)
    return [2 * math.log2(float(each) + 0.5) for each in np.quantile(np.sqrt(variance), (0.05, 0.5, 0.95))]


def _block_means(values: NDArray[np.float32]) -> NDArray[np.float32]:
    # Whole rows are added first, as that is several times as fast as a mean over two axes at once.
    rows, columns = (side // _BLOCK for side in values.shape)
    sums = values.reshape(rows, _BLOCK, -1).sum(axis=1).reshape(rows, columns, _BLOCK).sum(axis=2)
    result: NDArray[np.float32] = sums / np.float32(_BLOCK**2)
    return result


def _check(held: dict[str, NDArray[Any]]) -> None:
    """Refuse arrays that cannot be what ``Familiar.write`` has written.

    Raises:
        ValueError: saying what is odd.
    """
    if held["traits"].tolist() != list(TRAITS):
        raise ValueError("it describes images by other statistics than this version of mscflow")
    count, width = held["references"].shape[0] if held["references"].ndim else 0, len(TRAITS)
    shapes = {"references": (count, width), "whitening": (width, width), "radii": (count,), "bound": (3,)}
    for name, shape in shapes.items():
        array = held[name]
        if array.shape != shape or count == 0 or array.dtype.kind != "f" or not np.isfinite(array).all():
            raise ValueError(f"its '{name}' is damaged")
    if held["radii"].min() <= 0 or held["bound"][0] <= 0:
        raise ValueError("a distance in it is not positive")
