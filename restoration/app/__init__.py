"""Restore images on a page in the browser; everything stays on this machine.

python -m restoration.app
python -m restoration.app checkpoint=outputs/…/checkpoints/best.ckpt
"""
