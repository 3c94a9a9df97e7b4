"""Changes of pictures against Pillow and torchvision, by known amounts; what they promise as a whole."""

import colorsys
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from tests.oracles import oracle

from lessonplan.data import Augment
from lessonplan.data.augmentation import filters, pixelwise, policies
from lessonplan.data.augmentation.autoaugment import POLICIES
from lessonplan.data.augmentation.operations import OPERATIONS, SIGNED, apply
from lessonplan.data.augmentation.warp import Warp, inverse_move, resample
from lessonplan.data.augmentation.words import CHANGES, EXAMPLES, read_change
from lessonplan.errors import ConfigError

WORDS = ("rotate:20", "translate:0.2", "zoom:0.3", "shear:15", "resized-crop:0.3", *EXAMPLES)


def pictures(n=6, channels=3, h=24, w=30, seed=0):
    """Smooth colours with some noise, as photographs are; one constant picture among them."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, channels, 5, 5, generator=generator)
    x = torch.nn.functional.interpolate(coarse, size=(h, w), mode="bicubic") * 200 + 20
    x = (x + 12 * torch.randn(x.shape, generator=generator)).clamp(0, 255).round()
    x[-1] = 77
    return x


def as_pil(x):
    array = x.to(torch.uint8).numpy()
    return Image.fromarray(array[0]) if len(array) == 1 else Image.fromarray(array.transpose(1, 2, 0))


def from_pil(image):
    array = np.array(image)
    return torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1).copy()).float()


def by_enhance(kind):
    return lambda image, amount: kind(image).enhance(amount)


PILLOW = {
    "brightness": (pixelwise.brightness, by_enhance(ImageEnhance.Brightness), (0.1, 0.6, 1.0, 1.9)),
    "contrast": (pixelwise.contrast, by_enhance(ImageEnhance.Contrast), (0.1, 0.6, 1.0, 1.9)),
    "saturation": (pixelwise.saturation, by_enhance(ImageEnhance.Color), (0.0, 0.6, 1.0, 1.9)),
    "sharpness": (pixelwise.sharpness, by_enhance(ImageEnhance.Sharpness), (0.1, 0.6, 1.0, 1.9)),
    "posterize": (pixelwise.posterize, lambda image, bits: ImageOps.posterize(image, int(bits)), (1, 3, 4, 8)),
    "solarize": (pixelwise.solarize, ImageOps.solarize, (0, 76.5, 128, 255)),
    "invert": (lambda x, _: pixelwise.invert(x), lambda image, _: ImageOps.invert(image), (0,)),
    "autocontrast": (
        lambda x, _: pixelwise.autocontrast(x), lambda image, _: ImageOps.autocontrast(image), (0,)),
    "equalize": (lambda x, _: pixelwise.equalize(x), lambda image, _: ImageOps.equalize(image), (0,)),
}  # fmt: skip
EXACT = ("posterize", "solarize", "invert", "equalize")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", PILLOW)
def test_as_pillow_does(name, channels):
    """Each picture of a batch by its own amount; near it where Pillow rounds on the way."""
    ours, theirs, amounts = PILLOW[name]
    x = pictures(channels=channels)
    drawn = torch.tensor([amounts[i % len(amounts)] for i in range(len(x))], dtype=torch.float32)
    got = ours(x, drawn)
    want = torch.stack([from_pil(theirs(as_pil(one), float(a))) for one, a in zip(x, drawn, strict=True)])
    assert (got - want).abs().max() <= (0 if name in EXACT else 2)  # Pillow rounds the mean and the luma, too
    assert (name, channels) == ("saturation", 1) or not torch.equal(got[:2], x[:2])


def test_hues_turn_as_colorsys_does():
    x, turn = pictures(n=4, h=5, w=7), torch.tensor([0.0, 0.25, -0.4, 0.5])
    got = pixelwise.hue(x, turn)
    for i, j, k in [(i, j, k) for i in range(4) for j in range(5) for k in range(7)]:
        hue, saturation, value = colorsys.rgb_to_hsv(*(x[i, :, j, k] / 255).tolist())
        want = torch.tensor(colorsys.hsv_to_rgb((hue + turn[i].item()) % 1, saturation, value)) * 255
        assert torch.allclose(got[i, :, j, k], want, atol=2e-3)


def test_blurs_are_pillows_gaussian():
    x = pictures(n=3, h=60, w=64)
    got = filters.blur(x, torch.tensor([0.6, 1.0, 1.4]))
    inside = (slice(None), slice(8, -8), slice(8, -8))
    for one, ours, sigma in zip(x, got, (0.6, 1.0, 1.4), strict=True):
        theirs = from_pil(as_pil(one).filter(ImageFilter.GaussianBlur(sigma)))  # by box blurs, so near it
        assert (ours[inside] - theirs[inside]).abs().mean() < 1.2
        assert (one[inside] - theirs[inside]).abs().mean() > (3 if one.std() > 0 else -1)


def test_blur_by_hand():
    x = torch.zeros(1, 1, 21, 21)
    x[0, 0, 10, 10] = 100
    weights = torch.tensor([math.exp(-(d**2) / (2 * 0.8**2)) for d in (-1, 0, 1)])
    weights /= weights.sum()
    got = filters.blur(x, torch.tensor([0.8]))[0, 0, 9:12, 9:12]
    assert torch.allclose(got, 100 * weights[:, None] * weights[None], atol=1e-4)


def test_sobel_by_hand():
    steep = torch.zeros(1, 3, 6, 6)
    steep[:, :, :, 3:] = 255
    got = filters.sobel(steep)
    assert torch.allclose(got[0, :, :, 2:4], torch.tensor(255.0))
    assert got[0, :, :, [0, 1, 4, 5]].abs().max() == 0
    slope = torch.arange(6.0).expand(1, 1, 6, 6)  # one level a column: (1 + 2 + 1) * 2 / 4 = 2
    assert torch.allclose(filters.sobel(slope)[0, 0, :, 1:-1], torch.tensor(2.0))


def test_noise_is_normal():
    x = torch.full((40, 3, 20, 20), 128, dtype=torch.uint8)
    got = Augment.parse("noise:0.1")(x, torch.arange(40), seed=0, epoch=0).float() - 128
    assert abs(got.mean()) < 0.5
    assert abs(got.std() - 25.5) < 0.5
    within = (got.abs() < 25.5).float().mean()
    assert abs(within - 0.6827) < 0.015
    assert abs(torch.corrcoef(torch.stack([got[:, 0].flatten(), got[:, 1].flatten()]))[0, 1]) < 0.03


@pytest.mark.parametrize("h", [24, 25])
@pytest.mark.parametrize(
    ("angle", "shift", "zoom", "shear"),
    [(30, (0, 0), 1, 0), (0, (3, -2), 1, 0), (0, (0, 0), 0.7, 0), (0, (0, 0), 1, 20), (-75, (2, 5), 1.2, -15)],
)
def test_moves_are_torchvisions(h, angle, shift, zoom, shear):
    functional = oracle("torchvision.transforms.v2.functional")
    mode = functional.InterpolationMode.BILINEAR
    x = pictures(h=h)
    want = functional.affine(
        x, angle=angle, translate=list(shift), scale=zoom, shear=[shear, 0.0], interpolation=mode
    )
    n = len(x)
    matrix = inverse_move(
        angle=torch.full((n,), math.radians(angle)),
        shift=torch.tensor(shift, dtype=torch.float32).expand(n, 2),
        zoom=torch.full((n,), float(zoom)),
        shear=torch.full((n,), math.tan(math.radians(shear))),
    )
    assert torch.allclose(resample(x, matrix, "zeros"), want, atol=0.05)


def middle(n, **columns):
    """Draws that leave all as it is but for the columns that are given."""
    names = ("angle", "right", "down", "zoom", "shear", "area", "aspect", "left", "top")
    u = torch.full((n, 9), 0.5)
    u[:, 5] = 0
    for name, value in columns.items():
        u[:, names.index(name)] = value
    return u


def test_a_cut_is_the_part_that_was_drawn():
    """A quarter of the area at the upper left, as interpolated from that part alone."""
    x = pictures(h=20, w=20)
    got = Warp(cut=0.25)(x, middle(len(x), area=1.0, left=0.0, top=0.0))
    want = torch.nn.functional.interpolate(x[:, :, :10, :10], size=(20, 20), mode="bilinear")
    inside = (slice(None), slice(None), slice(1, -2), slice(1, -2))  # beyond the part its neighbours are seen
    assert torch.allclose(got[inside], want[inside], atol=0.05)


def test_cuts_have_their_areas_and_shapes():
    """Measured by what is left of two slopes, one along the columns, one along the rows."""
    n, h, w = 3000, 40, 60
    columns, rows = torch.arange(float(w)).expand(h, w), torch.arange(float(h))[:, None].expand(h, w)
    x = torch.stack([columns, rows]).expand(n, 2, h, w)
    u = torch.rand(n, 9, generator=torch.Generator().manual_seed(0))
    got = Warp(cut=0.1)(x, u)
    width = (got[:, 0, 20, 40] - got[:, 0, 20, 20]) * (w / 20)
    height = (got[:, 1, 30, 30] - got[:, 1, 10, 30]) * (h / 20)
    area, ratio = width * height / (w * h), width / height
    assert area.min() > 0.099
    assert area.max() < 1.001
    free = area < 0.4  # no side is cut off at the picture's
    assert abs(area[free].mean() - 0.25) < 0.01
    assert ratio[free].min() > 0.745
    assert ratio[free].max() < 1.34
    assert abs(ratio[free].log().mean()) < 0.01
    middle_column = got[:, 0].mean((1, 2)) - (w - 1) / 2
    assert (middle_column.abs() <= (w - width) / 2 + 0.2).all()


def test_pads():
    x = torch.full((1, 1, 9, 9), 100.0)
    turned = middle(1, angle=0.75)
    assert torch.allclose(Warp(rotate=90)(x, turned), x)
    zeros = Warp(rotate=90, pad="zeros")(x, turned)
    assert zeros[0, 0, 0, 0] == 0
    assert zeros[0, 0, 4, 4] == 100


def theirs_by_name(functional):
    """torchvision's operations of the policies as it applies them there, bilinear."""
    mode = functional.InterpolationMode.BILINEAR

    def move(x, angle=0.0, translate=(0, 0), shear=(0.0, 0.0), centre=None):
        return functional.affine(
            x,
            angle=angle,
            translate=list(translate),
            scale=1.0,
            shear=list(shear),
            interpolation=mode,
            center=centre,
        )

    return {
        "identity": lambda x, a: x,
        "shear-x": lambda x, a: move(x, shear=(math.degrees(math.atan(a)), 0.0), centre=[0.0, 0.0]),
        "shear-y": lambda x, a: move(x, shear=(0.0, math.degrees(math.atan(a))), centre=[0.0, 0.0]),
        "translate-x": lambda x, a: move(x, translate=(int(a), 0)),
        "translate-y": lambda x, a: move(x, translate=(0, int(a))),
        "rotate": lambda x, a: functional.rotate(x, -a, interpolation=mode),
        "brightness": lambda x, a: functional.adjust_brightness(x, 1 + a),
        "saturation": lambda x, a: functional.adjust_saturation(x, 1 + a),
        "contrast": lambda x, a: functional.adjust_contrast(x, 1 + a),
        "sharpness": lambda x, a: functional.adjust_sharpness(x, 1 + a),
        "posterize": lambda x, a: functional.posterize(x, int(a)),
        "solarize": functional.solarize,
        "autocontrast": lambda x, a: functional.autocontrast(x),
        "equalize": lambda x, a: functional.equalize(x),
        "invert": lambda x, a: functional.invert(x),
    }


@pytest.mark.parametrize("channels", [1, 3])
def test_operations_are_torchvisions(channels):
    """A batch in which each picture has another operation, against torchvision's one by one on 8-bit pictures."""
    theirs = theirs_by_name(oracle("torchvision.transforms.v2.functional"))
    assert set(theirs) == set(OPERATIONS)
    table = policies.amounts(31, (24, 30))
    for level, sign in ((9, 1), (20, -1), (30, 1)):
        x = pictures(n=len(OPERATIONS) + 1, channels=channels)[:-1]
        amount = table[:, level] * torch.tensor([sign if name in SIGNED else 1 for name in OPERATIONS])
        got = apply(x, torch.arange(len(OPERATIONS)), amount, "zeros").round().clamp(0, 255)
        for name, one, ours, a in zip(OPERATIONS, x, got, amount.tolist(), strict=True):
            want = theirs[name](one.to(torch.uint8)[None], a)[0].float()
            assert (ours - want).abs().max() <= (2 if name == "saturation" else 1), (name, a)


def test_amounts_and_pairs_are_torchvisions():
    module = oracle("torchvision.transforms.autoaugment")
    renamed = {
        "color": "saturation",
        **{f"{kind}{axis}": f"{kind}-{axis}" for kind in ("shear", "translate") for axis in "xy"},
    }

    def ours(name):
        return renamed.get(name.lower(), name.lower())

    spaces = [
        (policies.amounts(31, (32, 48)), module.RandAugment()._augmentation_space(31, (32, 48))),
        (policies.amounts(31, (32, 48), wide=True), module.TrivialAugmentWide()._augmentation_space(31)),
        (policies.amounts(10, (32, 48)), module.AutoAugment()._augmentation_space(10, (32, 48))),
    ]
    for table, space in spaces:
        assert {ours(name) for name in space} >= set(OPERATIONS) - {"identity", "invert"}
        for name, (values, signed) in space.items():
            row = table[OPERATIONS.index(ours(name))]
            assert torch.allclose(row, values.float().expand(len(row)), atol=1e-4), name
            assert signed == (ours(name) in SIGNED), name
    for name, pairs in POLICIES.items():
        theirs = module.AutoAugment(module.AutoAugmentPolicy(name))._get_policies(module.AutoAugmentPolicy(name))
        want = [tuple((OPERATIONS.index(ours(op)), level or 0, p) for op, p, level in both) for both in theirs]
        assert pairs == want


@pytest.mark.parametrize(("text", "expected"), [("trivial", 1 / 14), ("rand:1/0", 1 / 14)])
def test_every_operation_is_drawn_as_often(text, expected, monkeypatch):
    counted = torch.zeros(len(OPERATIONS))

    def count(x, operation, amount, pad):
        counted.add_(torch.bincount(operation, minlength=len(OPERATIONS)))
        return x

    monkeypatch.setattr(policies, "apply", count)
    n = 20_000
    Augment.parse(text)(torch.zeros(n, 1, 2, 2, dtype=torch.uint8), torch.arange(n), seed=1, epoch=0)
    assert counted[OPERATIONS.index("invert")] == 0
    assert (counted[:-1] / n - expected).abs().max() < 0.008


def test_learned_pairs_are_drawn_with_their_probabilities(monkeypatch):
    counted = torch.zeros(2, len(OPERATIONS))
    calls = []

    def count(x, operation, amount, pad):
        counted[len(calls) % 2] += torch.bincount(operation, minlength=len(OPERATIONS))
        calls.append((operation, amount))
        return x

    monkeypatch.setattr(policies, "apply", count)
    n = 50_000
    Augment.parse("auto-augment:cifar10")(
        torch.zeros(n, 1, 2, 2, dtype=torch.uint8), torch.arange(n), seed=1, epoch=0
    )
    for place in (0, 1):
        want = torch.zeros(len(OPERATIONS))
        for both in POLICIES["cifar10"]:
            operation, _, probability = both[place]
            want[operation] += probability / 25
            want[0] += (1 - probability) / 25
        assert (counted[place] / n - want).abs().max() < 0.01
    operation, amount = calls[0]
    turned = amount[operation == OPERATIONS.index("rotate")]
    assert abs((turned < 0).float().mean() - 0.5) < 0.05


@settings(max_examples=40, deadline=None)
@given(words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=4, unique=True), epoch=st.integers(0, 3))
def test_pixels_are_a_function_of_seed_epoch_and_row(words, epoch):
    """Whatever the batch that a sample is in; and the text is read as it was written."""
    augment = Augment.parse(",".join(["flip", "crop:2", *words]))
    assert Augment.parse(str(augment)) == augment
    x = pictures().to(torch.uint8)
    kept, rows = x.clone(), torch.tensor([3, 0, 900, 4, 17, 5])
    together = augment(x, rows, seed=4, epoch=epoch)
    assert together.dtype == torch.uint8
    assert together.shape == x.shape
    assert torch.equal(x, kept)
    order = torch.tensor([4, 2, 0])
    again = augment(x[order], rows[order], seed=4, epoch=epoch).int()
    # sums over planes of another batch may differ in the last bit, which shows where a level is rounded
    assert (again - together[order].int()).abs().max() <= (1 if any("sobel" not in w for w in words) else 0)
    for i, row in enumerate(rows):
        alone = augment(x[i : i + 1], row[None], seed=4, epoch=epoch)
        assert (alone.int() - together[i : i + 1].int()).abs().max() <= 1


@pytest.mark.parametrize("text", WORDS)
def test_every_word_changes_pictures_and_another_epoch_others(text):
    augment = Augment.parse(text)
    x = pictures(n=40).to(torch.uint8)
    first, second, other = (
        augment(x, torch.arange(40), seed=seed, epoch=epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0))
    )
    changed = (first != x).flatten(1).any(1)
    share = {"grey:0.2": 0.2, "sobel:0.2": 0.2, "blur:0.5": 0.5}.get(text, 0.9)
    assert changed.float().mean() > share / 2
    assert not torch.equal(first, second)
    assert not torch.equal(first, other)


def test_a_word_keeps_its_draws_when_others_come():
    x = pictures().to(torch.uint8)
    rows = torch.arange(6)
    alone = Augment.parse("grey:0.5")(x, rows, seed=0, epoch=0)
    grey = (alone[:, 0] == alone[:, 1]).flatten(1).all(1)
    after = Augment.parse("noise:0.0,grey:0.5,jitter:0.1")(x, rows, seed=0, epoch=0)
    assert torch.equal((after[:, 0] == after[:, 1]).flatten(1).all(1), grey)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rotate", "say how much, as in 'rotate:15'"),
        ("rotate:200", "from 0 to 180"),
        ("rotate:x", "one number, as in 'rotate:15'"),
        ("rotate:1,rotate:2", "rotate is there twice"),
        ("crop:1,crop:2", "crop is there twice"),
        ("jitter", "as in 'jitter:0.4/0.4/0.4/0.1'"),
        ("jitter:.1/.1/.1/.6", "from 0 to 0.5"),
        ("jitter:1/1/1/.1/1", "at most 4 numbers"),
        ("grey:2", "from 0 to 1"),
        ("noise:nan", "one number"),
        ("trivial:3", "write 'trivial'"),
        ("rand:2.5/9", "whole numbers"),
        ("rand:2/31", "from 0 to 30"),
        ("auto-augment", "cifar10, imagenet, svhn"),
        ("auto-augment:cifar", "did you mean 'cifar10'"),
        ("trivail", "did you mean 'trivial'"),
        ("resized-crop:0", "from 0.01 to 1"),
        ("auto,flip", "auto stands alone"),
        ("flip,none", "none stands alone"),
        ("pad:zeros", "nothing here moves them"),
        ("flip,jitter:.1,pad:zeros", "nothing here moves them"),
        ("", "unknown augmentation"),
        ("pad:mirror,crop:2", "padding"),
    ],
)
def test_what_cannot_be_read(text, says):
    with pytest.raises(ConfigError, match=says):
        Augment.parse(text)


@pytest.mark.parametrize(
    ("text", "shape", "says"),
    [
        ("jitter:.4/.4/.4", (1, 8, 8), "brightness and contrast alone"),
        ("grey", (1, 8, 8), "3 channels"),
        ("trivial", (4, 8, 8), "1 or 3 channels"),
        ("jitter:.1", (30,), "needs images"),
        ("rotate:5", (30,), "needs images"),
    ],
)
def test_pictures_that_cannot_be_changed_so(text, shape, says):
    with pytest.raises(ConfigError, match=says):
        Augment.parse(text).check(shape)


@pytest.mark.parametrize("text", ["crop:2,pad:zeros", "rotate:5,pad:zeros", "trivial,pad:zeros"])
def test_pads_are_written_where_they_matter(text):
    assert str(Augment.parse(text)) == text
    assert Augment.parse(text) != Augment.parse(text.removesuffix(",pad:zeros"))


def test_colours_are_of_eight_bits():
    x = torch.rand(2, 3, 8, 8)
    with pytest.raises(ConfigError, match=r"8-bit pictures; these samples are torch\.float32"):
        Augment.parse("jitter:.1")(x, torch.arange(2), seed=0, epoch=0)
    moved = Augment.parse("rotate:30")(x, torch.arange(2), seed=0, epoch=0)  # a move is one of any numbers
    assert moved.dtype == torch.float32
    assert not torch.equal(moved, x)


def test_examples_are_all_the_words():
    assert [text.partition(":")[0] for text in EXAMPLES] == list(CHANGES)
    assert [str(read_change(*text.partition(":")[::2], "reflect")) for text in EXAMPLES] == [
        "jitter:0.4/0.4/0.4/0.1", "grey", "blur", "noise:0.1", "sobel", "trivial", "rand",
        "auto-augment:imagenet",
    ]  # fmt: skip
