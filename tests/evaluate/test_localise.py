"""Maps against captum and against logits, boxes against drawn ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessonplan.errors import DataError, LessonplanError
from lessonplan.evaluate import localise as loc

Network = Callable[..., nn.Module]
POOLED = ["tiny", "resnet-18", "wrn-10-1", "preact-resnet-20", "densenet-bc-10-6"]


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.mark.parametrize("name", POOLED)
def test_the_mean_of_a_map_is_the_logit(network: Network, images: Tensor, labels: Tensor, name: str) -> None:
    """What defines CAM, with no other implementation needed."""
    model, x = network(name), images[:4]
    maps = loc.cam(model, x, labels[:4])
    bias = next(m for m in model.modules() if isinstance(m, nn.Linear)).bias
    logits = model(x)
    for i, c in enumerate(labels[:4].tolist()):
        torch.testing.assert_close(maps[i].mean(), logits[i, c] - bias[c], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(loc.cam(model, x), loc.cam(model, x, logits.argmax(1)))
    assert maps.std() > 0
    assert hooks(model) == 0


def test_cam_agrees_with_captum(network: Network, images: Tensor, labels: Tensor) -> None:
    """Where pooling and one linear layer end the network, Grad-CAM without its ReLU is CAM over the pixels."""
    attr = pytest.importorskip("captum.attr")
    model, x, y = network("resnet-18"), images[:2], labels[:2]
    theirs = attr.LayerGradCam(model, model.stage4).attribute(x, y, relu_attributions=False).squeeze(1)
    ours = loc.cam(model, x, y)
    torch.testing.assert_close(ours, theirs * ours[0].numel(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "layer"), [("tiny", "stage2"), ("lenet", "stage1"), ("wrn-10-1", "stage3.0.conv1")]
)
def test_grad_cam_agrees_with_captum(
    network: Network, images: Tensor, labels: Tensor, name: str, layer: str
) -> None:
    attr = pytest.importorskip("captum.attr")
    model = network(name)
    theirs = attr.LayerGradCam(model, model.get_submodule(layer)).attribute(images, labels, relu_attributions=True)
    with torch.no_grad():
        ours = loc.grad_cam(model, images, layer, labels)
    assert ours.max() > 0
    torch.testing.assert_close(ours, theirs.detach().squeeze(1), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(loc.grad_cam(model, images, model.get_submodule(layer), labels), ours)
    assert hooks(model) == 0
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("of", [loc.cam, loc.grad_cam])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_maps_of_labels_of_any_integers(network: Network, images: Tensor, of, dtype) -> None:
    """Six images of six classes: bytes would be taken for a mask."""
    model, labels = network("tiny"), torch.tensor([5, 4, 3, 2, 1, 1])
    assert torch.equal(of(model, images[:6], labels=labels.to(dtype)), of(model, images[:6], labels=labels))
    with pytest.raises(DataError, match="labels go from 1 to 6, but the model has 6"):
        of(model, images[:2], labels=torch.tensor([1, 6]))


def test_grad_cam_finds_the_last_maps_and_survives_overwriting(images: Tensor) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        conv = nn.Conv2d(3, 5, 3)
        head = nn.Linear(5, 4)
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    plain = nn.Sequential(conv, nn.ReLU(), pool, head)
    overwriting = nn.Sequential(conv, nn.ReLU(inplace=True), pool, head)
    torch.testing.assert_close(loc.grad_cam(plain, images), loc.grad_cam(plain, images, "1"))
    torch.testing.assert_close(loc.grad_cam(overwriting, images, "0"), loc.grad_cam(plain, images, "0"))
    torch.testing.assert_close(loc.cam(overwriting, images), loc.cam(plain, images))


def test_hooks_go_when_the_network_fails(network: Network, images: Tensor) -> None:
    model = network("tiny")
    for call in (loc.cam, loc.grad_cam):
        with pytest.raises(RuntimeError, match="channels"):
            call(model, images[:, :1])
    assert hooks(model) == 0


def test_networks_without_maps_are_refused(network: Network, images: Tensor) -> None:
    with pytest.raises(LessonplanError, match="grad_cam"):
        loc.cam(network("lenet"), images)
    with pytest.raises(LessonplanError, match="grad_cam"):
        loc.cam(
            nn.Flatten(),
            images,
        )
    with pytest.raises(LessonplanError, match="needs one"):
        loc.grad_cam(network("fcnet-5"), images)
    with pytest.raises(LessonplanError, match="did you mean 'stage1'"):
        loc.grad_cam(network("tiny"), images, "stge1")
    with pytest.raises(LessonplanError, match="takes no part"):
        loc.grad_cam(network("tiny"), images, nn.ReLU())
    with pytest.raises(LessonplanError, match="no feature maps"):
        loc.grad_cam(network("tiny"), images, "classifier")


def test_resized_maps_fill_the_range() -> None:
    maps = torch.stack([torch.arange(4.0).view(2, 2) - 9, torch.full((2, 2), 3.0)])
    large = loc.resize_maps(maps, (6, 8))
    assert large.shape == (2, 6, 8)
    assert (large[0].min(), large[0].max()) == (0.0, 1.0)
    assert large[1].abs().max() == 0.0


def test_boxes_of_the_largest_region() -> None:
    heat = torch.zeros(3, 9, 10)
    heat[0, 1:4, 2:7] = 0.6  # 15 pixels
    heat[0, 6:8, 1:3], heat[0, 0, 9] = 1.0, 0.9  # hotter, and smaller
    heat[1, 2, 2] = heat[1, 3, 3] = heat[1, 4, 2] = 1.0  # they touch at corners
    heat[1, 8, 8] = 1.0
    assert loc.boxes_from_maps(heat, 0.5).tolist() == [[1, 4, 2, 7], [2, 5, 2, 4], [0, 9, 0, 10]]
    assert loc.boxes_from_maps(heat, 0.95).tolist()[0] == [6, 8, 1, 3]
    assert loc.boxes_from_maps(heat[:1] / 7, 0.5).tolist() == [[1, 4, 2, 7]]  # relative to each map's maximum


def test_iou_by_counting_pixels() -> None:
    g = torch.Generator().manual_seed(0)
    corners = torch.randint(0, 8, (50, 2, 2, 2), generator=g).sort(3).values
    corners[..., 1] += 1
    boxes = corners.flatten(2)
    for a, b in boxes.tolist():
        grid = torch.zeros(2, 10, 10, dtype=torch.bool)
        for layer, (top, bottom, left, right) in zip(grid, (a, b), strict=True):
            layer[top:bottom, left:right] = True
        counted = (grid[0] & grid[1]).sum() / (grid[0] | grid[1]).sum()
        assert loc.iou(torch.tensor([a]), torch.tensor([b])).item() == pytest.approx(counted.item())
    with pytest.raises(LessonplanError, match="two times"):
        loc.iou(boxes[:, 0], boxes[:3, 0])


def test_boxes_without_a_pixel_share_nothing() -> None:
    empty = torch.tensor([[2, 2, 3, 3]])
    assert loc.iou(empty, empty).tolist() == [0.0]
    assert loc.iou(empty, torch.tensor([[0, 4, 0, 4]])).tolist() == [0.0]


def test_max_box_accuracy_and_localisation() -> None:
    heat = torch.zeros(2, 10, 10)
    heat[0, 2:6, 2:6], heat[0, 0:9, 0:9] = 1.0, torch.where(heat[0, 0:9, 0:9] > 0, 1.0, 0.3)
    heat[0, 2:6, 2:6] = 1.0
    heat[1, 0:5, 0:5] = 1.0
    boxes = torch.tensor([[2, 6, 2, 6], [0, 5, 0, 9]])  # IoU 1 above .3 (16/81 below), and 25/45
    found = loc.max_box_accuracy(heat, boxes, [0.0, 0.2, 0.5])
    assert found.curve == {0.0: 0.0, 0.2: 0.5, 0.5: 1.0}
    assert (found.best, found.threshold) == (1.0, 0.5)
    assert loc.max_box_accuracy(heat, boxes, [0.5], at_least=0.6).best == 0.5
    assert len(loc.max_box_accuracy(heat, boxes).curve) == 20
    several = torch.stack([torch.tensor([[0, 1, 0, 1], [0, 5, 0, 9]]), boxes], 1)  # any of an image's will do
    assert loc.max_box_accuracy(heat, several, [0.0, 0.2, 0.5]) == found
    assert loc.max_box_accuracy(heat, several[:, :1], [0.5]).best == 0.5
    assert loc.localisation_accuracy(heat, several, torch.tensor([True, True]), threshold=0.5) == 1.0
    assert loc.localisation_accuracy(heat, boxes, torch.tensor([True, True])) == 0.5
    assert loc.localisation_accuracy(heat, boxes, torch.tensor([True, False])) == 0.0
    assert loc.localisation_accuracy(heat, boxes, torch.tensor([True, False]), threshold=0.5) == 0.5


def test_bad_maps_are_refused() -> None:
    for maps, says in ((torch.zeros(3, 3), "at least one map"), (-torch.ones(1, 3, 3), "resize_maps")):
        with pytest.raises(LessonplanError, match=says):
            loc.boxes_from_maps(maps)
    with pytest.raises(LessonplanError, match="share of the map"):
        loc.boxes_from_maps(torch.ones(1, 3, 3), 1.5)
    with pytest.raises(LessonplanError, match="at least one"):
        loc.max_box_accuracy(torch.ones(1, 3, 3), torch.zeros(1, 4), [])


def test_pasted_images_stand_in_their_boxes() -> None:
    g = torch.Generator().manual_seed(0)
    images = torch.rand(40, 2, 6, 8, generator=g)
    canvas, boxes = loc.paste_on_clutter(images, (20, 24), generator=g)
    for i, (top, bottom, left, right) in enumerate(boxes.tolist()):
        assert torch.equal(canvas[i, :, top:bottom, left:right], images[i])
    assert len(boxes[:, 0].unique()) > 5
    assert len(boxes[:, 2].unique()) > 5
    assert boxes[:, 1].max() <= 20
    assert boxes[:, 3].max() <= 24


def test_clutter_is_made_of_the_images() -> None:
    images = torch.zeros(3, 1, 8, 8)
    images[1], images[2] = 0.25, 0.75
    canvas, _ = loc.paste_on_clutter(images, (40, 40), pieces=60, piece=4)
    for one in canvas:
        assert {0.0, 0.25, 0.75} <= set(one.unique().tolist())
        assert len(one.unique()) <= 4  # and one grey
    bare, boxes = loc.paste_on_clutter(images, (40, 40), pieces=0)
    for one, (top, bottom, left, right) in zip(bare, boxes.tolist(), strict=True):
        one[:, top:bottom, left:right] = one[0, 0, 0] if top and left else one[0, -1, -1]
        assert len(one.unique()) == 1


def test_scales_resize() -> None:
    images = torch.ones(200, 1, 8, 8)
    canvas, boxes = loc.paste_on_clutter(images, (20, 20), scales=(0.5, 1.0, 2.0), pieces=0)
    sides = boxes[:, 1] - boxes[:, 0]
    assert torch.equal(sides, boxes[:, 3] - boxes[:, 2])
    assert sides.bincount(minlength=17)[[4, 8, 16]].sum() == 200
    assert (sides.bincount(minlength=17)[[4, 8, 16]] > 40).all()
    for one, (top, bottom, left, right) in zip(canvas, boxes.tolist(), strict=True):
        torch.testing.assert_close(one[0, top:bottom, left:right], torch.ones(bottom - top, right - left))


def test_bad_canvases_are_refused() -> None:
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator())
    with pytest.raises(LessonplanError, match="do not fit"):
        loc.paste_on_clutter(images, (7, 20))
    with pytest.raises(LessonplanError, match="do not fit"):
        loc.paste_on_clutter(images, (20, 20), scales=())
    with pytest.raises(LessonplanError, match="they must fit"):
        loc.paste_on_clutter(images, (20, 20), piece=9)
    with pytest.raises(LessonplanError, match="floats"):
        loc.paste_on_clutter(images.byte(), (20, 20))


def test_a_network_that_looks_for_brightness_finds_what_was_pasted() -> None:
    """From generator to accuracy: a convolution that measures brightness, on bright squares on dark clutter."""
    g = torch.Generator().manual_seed(0)
    dark = torch.rand(30, 1, 8, 8, generator=g) * 0.1
    canvas, boxes = loc.paste_on_clutter(dark, (24, 24), pieces=0, generator=g)
    for one, (top, bottom, left, right) in zip(canvas, boxes.tolist(), strict=True):
        one.mul_(0.1)[:, top:bottom, left:right] = 1.0

    class Bright(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blur = nn.AvgPool2d(3, 1, 1)
            self.linear = torch.nn.utils.skip_init(nn.Linear, 1, 2, bias=False)
            self.linear.weight.data = torch.tensor([[-1.0], [1.0]])

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(F.relu(self.blur(x)).mean((2, 3)))

    maps = loc.resize_maps(loc.cam(Bright(), canvas, torch.ones(30, dtype=torch.int64)), (24, 24))
    assert loc.max_box_accuracy(maps, boxes).best == 1.0
    wrong = loc.resize_maps(loc.cam(Bright(), canvas, torch.zeros(30, dtype=torch.int64)), (24, 24))
    assert loc.max_box_accuracy(wrong, boxes).best < 0.2
