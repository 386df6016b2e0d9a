"""Joint fits of all emitters of an image.

`refiner.Refiner` fits one frame from the detections of a network. `prior_fit.fit_with_prior` fits an image whose
emitters are known from earlier images.
"""
