"""The embedded corpus: videos whose class is a motion, rendered here, laid out as the data sets that people have.

    kinetics400/annotations/{train,val}.csv   kinetics400/videos/CLASS/ID_START_END.mp4
    kinetics600/annotations/{train,val}.csv   kinetics600/videos/ID_START_END.mp4
    kinetics700/annotations/{train,val}.csv   kinetics700/videos/SPLIT/ID_START_END.mp4
    ssv2/{labels,train,validation}.json       ssv2/videos/ID.webm
    selfcollected/ALBUM/NAME.mp4
    truth.csv                                 what is planted where: for tests alone

:mod:`.motions` draws, :mod:`.layout` says who lists what, :mod:`.plants` and :mod:`.derive` do the damage, and
:func:`.build.build` makes it all. Nothing but the standard library, numpy, OpenCV and PyAV is needed.
"""
