"""The Open Inference Protocol (KServe v2) over HTTP: its bodies in and out. The routes are ``gateway.oip.routes``."""
