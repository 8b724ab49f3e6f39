"""Backbones: networks that predict the clean image."""

from restoration.backbone.base import Backbone, Context, DamageEstimate
from restoration.backbone.encoder import Encoder
from restoration.backbone.resnet_unet import ResNetUNet
from restoration.backbone.resnet_unet_state import ResNetUNetState

__all__ = ["Backbone", "Context", "DamageEstimate", "Encoder", "ResNetUNet", "ResNetUNetState"]
