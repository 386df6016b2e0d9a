"""Light that stands still over time: its estimate from the frames, the rule for its use, and its removal.

`static_light.StaticLight` follows the frames of a camera and gives for each the
`frame_light.FrameLight` to remove. Localization, live and offline, asks nothing else.
"""
