"""How well the frames after a beginning are predicted: best of many samples, frame by frame, and in motion."""
