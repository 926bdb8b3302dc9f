# docker buildx bake                     the image, and the one with litellm, for two architectures
# IMAGE=ghcr.io/you/chat-proxy VERSION=0.1.0 docker buildx bake --push

variable "IMAGE" { default = "chat-proxy" }
variable "VERSION" { default = "dev" }

group "default" { targets = ["image", "full"] }

target "image" {
  context   = "."
  platforms = ["linux/amd64", "linux/arm64"]
  tags      = ["${IMAGE}:${VERSION}", "${IMAGE}:latest"]
  args      = { VERSION = VERSION, LOCK = "requirements-image.lock" }
  attest    = ["type=sbom", "type=provenance,mode=max"]
}

target "full" {
  inherits = ["image"]
  tags     = ["${IMAGE}:${VERSION}-full", "${IMAGE}:full"]
  args     = { VERSION = VERSION, LOCK = "requirements.lock" }
}
