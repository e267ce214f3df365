#!/bin/sh
# Usage: examples/curl.sh PHOTO.jpg 'a cat,a dog'
set -eu
photo=$1
labels=$2
url=${SIGHTLINE_URL:-http://127.0.0.1:8000}
auth="Authorization: Bearer ${SIGHTLINE_API_KEY:-none}"

echo "As the body, labels in the address:"
curl -sS --fail-with-body -H "$auth" -H 'Content-Type: image/jpeg' --data-binary "@$photo" \
  "$url/v1/classify?labels=$(printf %s "$labels" | sed 's/ /%20/g')"

echo; echo "As a part of a form:"
curl -sS --fail-with-body -H "$auth" -F "image=@$photo" \
  -F "request={\"labels\": [\"$(printf %s "$labels" | sed 's/,/", "/g')\"]};type=application/json" "$url/v1/classify"

echo; echo "As base64 in JSON:"
printf '{"image": "%s", "labels": ["%s"]}' "$(base64 <"$photo" | tr -d '\n')" "$(printf %s "$labels" | sed 's/,/", "/g')" |
  curl -sS --fail-with-body -H "$auth" -H 'Content-Type: application/json' --data-binary @- "$url/v1/classify"
echo
