"""A sweep: the focus drive steps through focus, and the camera exposes at each plane.

request        what a user asks for, and how large the sweep becomes
geometry       sign and scale of depth, pixel size at the sample
drive          moves of the focus drive
focus          search for focus
acquisition    the sweep itself: focus, planes, exposures
restore        puts microscope settings and position back, however the sweep ends
exposure_file  the exposures on disk
run            a sweep in the engine: a thread, and the state of its job
outcomes       how sweeps ended, written into their jobs
"""
