"""`python -m genlab_helpers` says in JSON what a run would find here."""

import json

from genlab_helpers import files, runtime, settings

try:
    device, data = runtime.pick_device(), settings.data_folder()
    found = {"device": runtime.machine(device)["device"], "data": str(data)}
    found |= {"bfloat16": runtime.fast_bfloat16(device), "datasets": {}}
    for name in ("MNIST", "Fashion-MNIST"):
        known = files.DIGESTS["datasets"][name]
        paths = [data / known["folder"] / file for file in known["files"]]
        digests = [files.sha256_of(path) for path in paths if path.is_file()]
        found["datasets"][name] = digests == list(known["files"].values())
    found["datasets"]["CelebA"] = any(data.glob("celeba/img_align_celeba/*.jpg"))
except settings.SettingsError as error:
    found = {"error": str(error)}
print(json.dumps(found))
