import sys, time

import torch, numpy as np
from sklearn.manifold import TSNE
from sklearn.cluster import KMeans, AgglomerativeClustering, SpectralClustering
from sklearn.mixture import GaussianMixture
from genlab_helpers import metrics
n = 8000
for f in sys.argv[1:]:
    s = torch.load(f); z, y = s["z"][:n].numpy(), s["y"][:n]
    acc = lambda l: f"{metrics.clustering_accuracy(y, torch.as_tensor(l)):.3f}"
    t = time.time(); m = TSNE(init="pca", random_state=0).fit_transform(z); tt = time.time() - t
    out = {"codes km": KMeans(10, n_init=10, random_state=0).fit_predict(z), "codes gmm": GaussianMixture(10, n_init=3, random_state=0).fit_predict(z),
      "map km": KMeans(10, n_init=20, random_state=0).fit_predict(m), "map gmm": GaussianMixture(10, n_init=10, random_state=0).fit_predict(m), "map ward": AgglomerativeClustering(10).fit_predict(m)}
    for k in (20, 30):
        km = KMeans(k, n_init=10, random_state=0).fit(m)
        lab = AgglomerativeClustering(10, linkage="average").fit_predict(km.cluster_centers_)
        out[f"km{k}+avg"] = lab[km.labels_]
    t = time.time()
    out["spectral"] = SpectralClustering(10, affinity="nearest_neighbors", n_neighbors=10, assign_labels="cluster_qr", random_state=0).fit_predict(z)
    print(f, f"tsne {tt:.0f} s, spectral {time.time()-t:.0f} s", {k: acc(v) for k, v in out.items()}, flush=True)
    s["map"] = m; s["labels"] = {k: np.asarray(v) for k, v in out.items()}; torch.save(s, f)
