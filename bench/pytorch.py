"""PyTorch's side of the benchmark: a request a line on stdin, an answer a line on stdout.

    load DTYPE OUTER CLASSES INNER LOGITS TARGETS   reads a case from two files of raw numbers  -> ok
    check                                           -> the loss and the sum of |gradient|
    run forward|gradient THREADS WARM_UP CALLS      calls for WARM_UP ns, then CALLS timed ones  -> nanoseconds, page faults

An answer that begins with "error" says what went wrong. The first line out is the version and the CPU capability in use.
The only argument is the label smoothing.
"""
import gc
import re
import resource
import sys
import time

import torch
import torch.nn.functional as F

SMOOTHING = float(sys.argv[1])
logits = targets = None


def forward():
    with torch.no_grad():
        return F.cross_entropy(logits, targets, label_smoothing=SMOOTHING)


def gradient():
    loss = F.cross_entropy(logits, targets, label_smoothing=SMOOTHING)
    return torch.autograd.grad(loss, logits)[0]


def read(path, dtype, shape):
    """A tensor from a file of raw numbers, copied to memory of PyTorch's own, which is aligned as it likes."""
    return torch.from_file(path, False, shape.numel(), dtype=dtype).clone().reshape(shape)


def load(dtype, outer, classes, inner, logits_path, targets_path):
    global logits, targets
    logits = targets = None  # frees the case before
    outer, classes, inner = int(outer), int(classes), int(inner)
    side = int(inner**0.5)
    image = [side, inner // side] if inner > 1 else []
    logits = read(logits_path, getattr(torch, dtype), torch.Size([outer, classes] + image)).requires_grad_()
    targets = read(targets_path, torch.int64, torch.Size([outer] + image))
    return "ok"


def check():
    return f"{forward().item()!r} {gradient().abs().sum(dtype=torch.float64).item()!r}"


def page_faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def run(direction, threads, warm_up, calls):
    if torch.get_num_threads() != int(threads):
        torch.set_num_threads(int(threads))
    call, calls = {"forward": forward, "gradient": gradient}[direction], range(int(calls))
    ready = time.perf_counter_ns() + int(warm_up)
    while time.perf_counter_ns() < ready:
        call()
    faults, start = page_faults(), time.perf_counter_ns()
    for _ in calls:
        call()
    elapsed = time.perf_counter_ns() - start
    faults = page_faults() - faults
    if int(threads) > 1:
        time.sleep(0.01)  # OpenMP's threads spin for some milliseconds: not into the next contender's round
    return f"{elapsed} {faults}"


gc.disable()
capability = re.search(r"CPU capability usage: (.*)", torch.__config__.show()).group(1)
print(torch.__version__, capability.lower(), flush=True)
for line in sys.stdin:
    command, *arguments = line.split()
    try:
        answer = {"load": load, "check": check, "run": run}[command](*arguments)
    except Exception as e:
        answer = f"error {type(e).__name__}: {e}".replace("\n", " ")
    print(answer, flush=True)
