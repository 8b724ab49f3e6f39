"""How good a restored picture is: per-image figures, baselines, distances between sets, and an evaluation of it all."""
