"""FFmpeg's names of the containers that are allowed, and their properties."""

CONTAINERS = (
    # files, phones, browsers, editors
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,asf_o,au,avi,bonk,caf,dsf,eac3,flac,flv,gsm,iff,matroska,webm,mov,mp4,m4a,3gp,"
    "mlp,mp3,mpc,mpc8,nut,ogg,oma,osq,qcp,qoa,rka,rm,ivr,shn,sox,tak,truehd,tta,voc,w64,wav,wavarc,wsd,wv,xwma,"
    # broadcast, discs, cameras, telephony, dictation
    "ast,avr,dhav,dss,dts,dtshd,dv,gxf,hcom,ircam,kux,live_flv,loas,lvf,mmf,mpeg,mpegts,mxf,nistsphere,nsv,paf,pmp,pva,"
    "pvf,s337m,smjpeg,sol,spdif,swf,ty,vqf,wtv,wve"
)
"""Self-contained audio containers.

Excluded: formats that refer to other files or hosts (hls, dash, concat, imf, sdp, rtsp, image2, vobsub,
webm_dash_manifest), generators (lavfi, sbg), devices, pictures and text, and raw samples without a header, which any
bytes could be.
"""

INDEXED = ("mov", "matroska", "asf", "ogg", "wav", "avi", "flv", "mxf")
"""Containers with a known duration; for others FFmpeg estimates it from the bit rate."""

TIMED = ("mov", "matroska", "ogg", "mpeg", "mpegts", "flv", "asf", "nut", "avi", "wtv", "rm", "gxf")
"""Containers with time stamps by the recorder; those of others are counted by the reader."""
