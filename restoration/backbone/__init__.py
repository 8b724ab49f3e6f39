"""Backbones: the networks of the flow."""

from restoration.backbone.base import Backbone
from restoration.backbone.dit import DiT
from restoration.backbone.encoder import Encoder
from restoration.backbone.resnet_unet import ResNetUNet
from restoration.backbone.resnet_unet_state import ResNetUNetState
from restoration.backbone.smp_unet import SmpUNet
from restoration.backbone.unet import UNet

__all__ = ["Backbone", "DiT", "Encoder", "ResNetUNet", "ResNetUNetState", "SmpUNet", "UNet"]
