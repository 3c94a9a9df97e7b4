"""Puzzle Mix: saliency, mask, transport, and the mix made of them."""

from lessonplan.mix.puzzle.assemble import Puzzle, Weights, puzzle
from lessonplan.mix.puzzle.mix import PuzzleMix
from lessonplan.mix.puzzle.solver import solve_mask
from lessonplan.mix.puzzle.transport import transport_plan

__all__ = ["Puzzle", "PuzzleMix", "Weights", "puzzle", "solve_mask", "transport_plan"]
