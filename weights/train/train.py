"""Train the demo model: `python -m weights.train.train --folder RUN --minutes 120 [--cooldown 20]`.

Resumable at any time: the newest checkpoint in the folder is taken up again. The learning rate warms up and stays
constant; a file STOP in the folder ends the run with a checkpoint. `--cooldown N` lets the rate fall to zero during the
last N minutes, which gives the weights to export, in a checkpoint of its own (cooled.pt), so that training can go on
from the constant stretch.
"""

import argparse
import copy
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from .grouping import GroupingHead
from .loader import Kind, Loader, plain_folder
from .losses import OBJECT, sam_loss
from .model import DEMO, Sam, at_size, fit_biases, normalise
from .photo_scenes import photo_scenes
from .photos import labelled_photos, training_photos
from .pool import keep_painting
from .rounds import Asked, chosen_mask, corrective_clicks, encode, first_round
from .stored import stored

WARM_UP = 200  # steps from random weights
NEW_MOMENTS = 50  # steps of warm-up from trained weights, while the optimizer knows no gradients yet
NEW_HEAD = 300  # steps that a new auxiliary head learns by itself, before its loss reaches trained weights
NEW_RATE = 3.0  # of blocks that `grow.py` has added, times the rate of the others
BOXES = 0.65  # of the first prompts are boxes
ROUNDS = (0.5, 0.2, 0.1, 0.1, 0.1)  # how often a step trains, beside the first round, none or the n-th corrective one
EARLY_ROUNDS = (0.85, 0.15, 0.0, 0.0, 0.0)  # before EARLY steps, while first clicks are still poor
EARLY = 2500
GROUPING = 1.0  # of the auxiliary loss beside SAM's; 5 for l in README.md


@dataclass(frozen=True)
class Options:
    """The command line."""

    folder: Path
    minutes: float
    cooldown: float
    lr: float
    images: int
    prompts: int
    processes: int
    size: int
    paint: float
    threads: int = 0
    crop: int = 0
    whole: tuple[int, int] | None = None
    plain: float = 0.0
    start: Path | None = None
    head: Path | None = None
    new: tuple[str, ...] = ()
    keep_statistics: bool = False
    bfloat16: bool = False
    ema: float = 0.999
    cooled_ema: float = 0.98  # the falling learning rate averages by itself


def legal_levels(valid: Tensor, level: Tensor, single_click: Tensor) -> Tensor:
    """(N, 3): a single click may mean any valid level, every other prompt the level it was made for."""
    meant = torch.nn.functional.one_hot(level, 3).bool()
    return torch.where(single_click[:, None], valid, meant)


def backward_round(sam: Sam, leaf: Tensor, asked: Asked, goal: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """One decoder call with gradients into the decoder and into `leaf` (B, C, G, G); logits, ious, loss parts."""
    logits, iou = sam.decode(leaf, *encode(sam, asked))
    loss, parts = sam_loss(logits, iou, *goal)
    loss.backward()
    return logits.detach(), iou.detach(), parts


def step(sam: Sam, head: GroupingHead, batch: dict[str, Tensor], rng: np.random.Generator, extra: int, grouped: bool) -> Tensor:
    """Gradients of one batch: the first round and, if not 0, the `extra`-th corrective one; parts (6,) for the log.

    The auxiliary loss reaches the encoder if `grouped`, else its own head only.
    """
    embedding = sam.encode(normalise(batch["image"]))
    leaf = embedding.detach().requires_grad_()
    targets, level = batch["targets"], batch["level"]
    rows, boxed = torch.arange(len(level)), torch.from_numpy(rng.random(len(level)) < BOXES)
    asked = first_round(batch["point"], batch["box"], boxed)
    legal = legal_levels(batch["valid"], level, ~boxed)
    goal = (targets, legal, torch.where(boxed, level, OBJECT))
    logits, iou, parts = backward_round(sam, leaf, asked, goal)
    keep = torch.from_numpy(rng.random(len(level)) < 0.85)
    for n in range(1, extra + 1):
        last = chosen_mask(logits, iou, boxed, first=n == 1)
        asked = asked.add(*corrective_clicks(rng, last, targets[rows, level]), last, keep)
        if n < extra:
            with torch.no_grad():
                logits, iou = sam.decode(leaf.detach(), *encode(sam, asked))
    if extra:
        goal = (targets, legal_levels(batch["valid"], level, torch.zeros_like(boxed)), level)
        backward_round(sam, leaf, asked, goal)
    grouping = head.loss(leaf if grouped else leaf.detach(), batch["groups"])
    (GROUPING * grouping).backward()
    embedding.backward(leaf.grad)
    return torch.cat([parts, grouping.detach()[None]])


def kinds(o: Options) -> list[Kind]:
    """The batches that follow one another."""
    first = Kind(o.images, o.prompts, o.crop or o.size)
    return [first, Kind(*o.whole, o.size)] if o.whole else [first]


def begin_step(sam: Sam, keep_statistics: bool) -> None:
    """Training mode; with `keep_statistics`, BatchNorm normalises as it will in use, which lets a batch be small."""
    sam.train()
    if keep_statistics:
        for module in sam.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()


def share_gradients(modules: nn.Module) -> None:
    """Average the gradients over the processes, in one message."""
    grads = [p.grad for p in modules.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in grads])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for g, new in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
        g.copy_(new.view_as(g))


def optimizer(modules: nn.Module, lr: float, new: tuple[str, ...] = ()) -> torch.optim.AdamW:
    """AdamW with decay on matrices and kernels only. What is in the modules `new` learns NEW_RATE times as fast as the rest.

    Raises ValueError where there is no module of that name.
    """
    is_new = {name: any(f".{module}." in f".{name}" for module in new) for name, _ in modules.named_parameters()}
    for module in new:
        if not any(f".{module}." in f".{name}" for name in is_new):
            raise ValueError(f"--new {module}: the model has no such module")
    groups = []
    for fast, rate in ((False, 1.0), (True, NEW_RATE)):
        chosen = [p for name, p in modules.named_parameters() if is_new[name] == fast]
        groups.append({"params": [p for p in chosen if p.ndim > 1], "weight_decay": 0.02, "rate": rate})
        groups.append({"params": [p for p in chosen if p.ndim <= 1], "weight_decay": 0.0, "rate": rate})
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, betas=(0.9, 0.98), fused=True)


def fit_moments(state: dict[str, dict], opt: torch.optim.Optimizer) -> dict[str, dict]:
    """The optimizer's state of a run at another size: tensors that changed shape begin anew."""
    for i, p in enumerate(p for group in opt.param_groups for p in group["params"]):
        for key in ("exp_avg", "exp_avg_sq"):
            if i in state["state"] and state["state"][i][key].shape != p.shape:
                state["state"][i][key] = torch.zeros_like(p)
    return state


@torch.no_grad()
def update_ema(ema: Sam, sam: Sam, decay: float, number: int) -> None:
    """Move the averaged weights; BatchNorm's statistics are taken over."""
    decay = min(decay, (1 + number) / (10 + number))
    torch._foreach_lerp_(list(ema.parameters()), list(sam.parameters()), 1 - decay)
    statistics = dict(sam.named_buffers())
    for name, buffer in ema.named_buffers():
        if "running" in name:  # BatchNorm's are averages already
            buffer.copy_(statistics[name])


def save(path: Path, state: dict[str, object]) -> None:
    """Write a checkpoint so that a kill at any moment leaves the old or the new one."""
    torch.save(state, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


class Run:
    """What is trained, as far as it has come: of the newest checkpoint in the folder, or at its beginning (`--start`)."""

    def __init__(self, o: Options) -> None:
        self.o = o
        self.sam = Sam(at_size(DEMO, o.size), o.bfloat16).look_where_clicked()
        self.head = GroupingHead(self.sam.config.prompt_embed_dim)
        self.both = nn.ModuleList([self.sam, self.head])
        self.ema, self.opt = copy.deepcopy(self.sam).eval(), optimizer(self.both, o.lr, o.new)
        self.number = self.born = 0  # of steps; those of the weights that it began with
        self.warm_up = self.head_alone = WARM_UP
        newest = o.folder / "checkpoint.pt"
        if newest.exists():
            self._go_on(newest)
        elif o.start is not None:
            self._start(o.start, o.head)

    def _go_on(self, newest: Path) -> None:
        state = torch.load(newest, map_location="cpu", weights_only=True)
        self.number = state["step"]
        self.sam.load_state_dict(fit_biases(state["model"], self.sam))
        self.ema.load_state_dict(fit_biases(state["ema"], self.sam))
        self.head.load_state_dict(state["head"])
        self.opt.load_state_dict(fit_moments(state["optimizer"], self.opt))

    def _start(self, start: Path, head: Path | None) -> None:
        trained, self.number = stored(start)
        self.born, self.warm_up, self.head_alone = self.number, NEW_MOMENTS, NEW_MOMENTS if head else NEW_HEAD
        self.sam.load_state_dict(fit_biases(trained.state_dict(), self.sam))
        self.ema.load_state_dict(self.sam.state_dict())
        if head is not None:
            kept = torch.load(head, map_location="cpu", weights_only=True)
            if "head" not in kept:
                raise ValueError(f"--head {head}: it has no auxiliary head, as means have none; take a run's cooled.pt")
            self.head.load_state_dict(kept["head"])

    def step(self, batch: dict[str, Tensor], own: np.random.Generator, extra: int, lr: float) -> tuple[Tensor, float]:
        """One step of the optimizer, its gradients averaged over the processes; the log's parts (6,), the gradients' norm."""
        for group in self.opt.param_groups:
            group["lr"] = lr * group.get("rate", 1.0)  # checkpoints of before have none
        begin_step(self.sam, self.o.keep_statistics)
        parts = step(self.sam, self.head, batch, own, extra, grouped=self.number - self.born >= self.head_alone - 1)
        share_gradients(self.both)
        norm = torch.nn.utils.clip_grad_norm_(self.both.parameters(), 1.0)
        self.opt.step()
        self.opt.zero_grad()
        self.number += 1
        update_ema(self.ema, self.sam, self.o.cooled_ema if self.o.cooldown else self.o.ema, self.number)
        return parts, float(norm)

    def learning_rate(self, elapsed: float) -> float:
        """After so many seconds: it warms up, is constant, and in the last stretch falls to zero."""
        o, warm = self.o, min(1.0, (self.number - self.born + 1) / self.warm_up)
        left = o.minutes * 60 - elapsed
        return o.lr * warm * (min(1.0, max(0.0, left / (o.cooldown * 60))) if o.cooldown else 1.0)

    def save(self, elapsed: float) -> None:
        """Write the checkpoint: one of its own while the rate falls, so that training can go on from the constant stretch."""
        falling = self.o.cooldown and elapsed > 60 * (self.o.minutes - self.o.cooldown)
        things = {"model": self.sam, "head": self.head, "ema": self.ema, "optimizer": self.opt}
        state = {"step": self.number, "size": self.o.size} | {k: v.state_dict() for k, v in things.items()}
        save(self.o.folder / ("cooled.pt" if falling else "checkpoint.pt"), state)


def worker(rank: int, o: Options) -> None:
    """One training process; rank 0 also logs and saves."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29517")
    dist.init_process_group("gloo", rank=rank, world_size=o.processes)
    torch.set_num_threads(o.threads or max(1, (os.cpu_count() or 2) // o.processes))
    torch.manual_seed(0)
    run = Run(o)
    first = run.number
    photos = photo_scenes(labelled_photos(), o.folder)
    loader = Loader(o.folder / "pool", [rank, first], kinds(o), o.size, photos, o.plain)
    shared = np.random.default_rng(first)  # the same on every process: how many rounds
    own = np.random.default_rng([rank, first, 1])  # of other numbers than the loader's
    torch.manual_seed(first * o.processes + rank)  # which pixels the auxiliary loss compares: others on every process
    started = saved = time.monotonic()
    average, last = torch.zeros(6), False
    while not last:
        lr = run.learning_rate(time.monotonic() - started)
        batch = loader.next()
        size = batch["image"].shape[1]
        run.sam.look_at(size, tuple(shared.integers(0, (o.size - size) // 16 + 1, 2).tolist()))
        extra = int(shared.choice(len(ROUNDS), p=EARLY_ROUNDS if run.number < EARLY else ROUNDS))
        parts, norm = run.step(batch, own, extra, lr)
        average += (parts - average) / min(100, run.number - first)
        clock = torch.tensor([time.monotonic() - started, float((o.folder / "STOP").exists())])
        dist.broadcast(clock, 0)  # all processes end at the same step
        elapsed = float(clock[0])
        started = time.monotonic() - elapsed
        last = elapsed >= o.minutes * 60 or clock[1] > 0
        if rank == 0 and run.number % 25 == 0:
            losses = " ".join(f"{v:.3f}" for v in average.tolist())
            print(f"{time.strftime('%H:%M:%S')} step {run.number} lr {lr:.1e} loss {losses} norm {norm:.2f}", flush=True)
        if rank == 0 and (time.monotonic() - saved > 240 or last):
            saved = time.monotonic()
            run.save(elapsed)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--cooldown", type=float, default=0.0)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--images", type=int, default=4, help="per process and step")
    parser.add_argument("--prompts", type=int, default=8, help="per image")
    parser.add_argument("--size", type=int, default=DEMO.image_size, help="of the pictures: smaller ones for a quick start")
    parser.add_argument("--crop", type=int, default=0, help="train on squares of so many pixels of those pictures")
    parser.add_argument(
        "--whole", type=int, nargs=2, metavar=("IMAGES", "PROMPTS"),
        help="at every other step: with --crop, so many whole pictures, with so many prompts each",
    )  # fmt: skip
    parser.add_argument(
        "--plain", type=float, default=0.0, help="so many of the pictures as evaluation has them: without photographs"
    )
    parser.add_argument("--start", type=Path, help="weights that a new run begins with: weights/demo.safetensors, a .pt")
    parser.add_argument("--head", type=Path, help="with --start: a checkpoint that the auxiliary loss takes its head from")
    parser.add_argument(
        "--new", nargs="+", default=(), metavar="BLOCK", help=f"what learns {NEW_RATE:g} times as fast: blocks from grow.py"
    )
    parser.add_argument("--keep-statistics", action="store_true", help="BatchNorm's stay as they are: for small batches")
    parser.add_argument("--bfloat16", action="store_true", help="products of 16 bits: faster where the CPU has avx512_bf16")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--threads", type=int, default=0, help="per process; 0: as many as there are cores for each")
    parser.add_argument("--paint", type=float, default=2.0, help="new scenes a second; 0: only those painted before")
    given = vars(parser.parse_args())
    o = Options(**given | {"new": tuple(given["new"])})
    if o.crop % 16 or not 0 <= o.crop <= o.size:
        parser.error(f"--crop {o.crop}: a multiple of 16 up to --size, {o.size}")
    if not 0 <= o.plain <= 1:
        parser.error(f"--plain {o.plain}: a share of the pictures, from 0 to 1")
    if o.head and not o.start:
        parser.error(f"--head {o.head}: it goes with --start; a run that is gone on from has its own")
    if o.whole and not o.crop:
        parser.error("--whole is for every other step beside those of --crop; without it all pictures are whole")
    o.folder.mkdir(parents=True, exist_ok=True)
    (o.folder / "STOP").unlink(missing_ok=True)
    pools = {o.folder / "pool": training_photos()} | ({plain_folder(o.folder / "pool"): ()} if o.plain else {})
    painters = [mp.Process(target=keep_painting, args=(*pool, o.paint), daemon=True) for pool in pools.items()]
    if o.paint:
        for painter in painters:
            painter.start()
    trainers = mp.spawn(worker, (o,), o.processes, join=False)
    pids = [os.getpid(), *(p.pid for p in (*painters, *trainers.processes) if p.pid)]
    (o.folder / "PIDS").write_text(" ".join(map(str, pids)) + "\n")
    while not trainers.join():
        pass


if __name__ == "__main__":
    main()
