"""The commands and what they are for: plain text, so that help needs nothing else."""

from __future__ import annotations

COMMANDS = {
    "compare": "Compare training procedures over several seeds, paired and at equal compute.",
    "advise": "Find which procedure helps on your data within a given time, and train it.",
    "train": "Train one network; run again to resume.",
    "tune": "Search the numbers of one plan: learning rate, K, margins, and what else it has.",
    "lr": "Find a learning rate: train a few steps while it rises, and see where the loss falls.",
    "check": "Look at data before training, or try a part of your own.",
    "preview": "Draw mixed images with their labels.",
    "order": "Search the best order of a few batches: every permutation, epoch after epoch.",
    "explain-orders": "Say what the best orders of a search have in common, and whether that foretells good ones.",
    "predict": "Classify images or recordings with a trained network.",
    "export": "Write a trained network as an ONNX file.",
    "evaluate": "Judge a trained network: attacks, test-time sums, out-of-distribution, localisation.",
    "recipes": "List the experiments that can be reproduced.",
    "reproduce": "Run an experiment of the sources, beside the sources' numbers.",
    "report": "Write the pages of a folder again.",
    "doctor": "Say what is installed, what is missing, which line installs it, and where training happens.",
    "completion": "Print a script that completes commands and options in bash, zsh or fish.",
}
