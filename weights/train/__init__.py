"""How weights/demo.safetensors was made: scenes, training loop, evaluation, export (see README.md here)."""
