"""How the benchmarks are named that evaluate can open; a help page needs no more of them than this."""

KINDS = {
    "got10k": "got10k:ROOT:SPLIT (train, val, test or a list file)",
    "trackingnet": "trackingnet:ROOT[:TEST]",
    "lasot": "lasot:ROOT[:SPLIT] (test, train, all or a list file)",
    "uav123": "uav123:ROOT[:SPLIT] (UAV123, UAV20L, UAV123_10fps or a list file)",
    "otb": "otb:ROOT[:LIST]",
    "visdrone": "visdrone:ROOT[:SPLIT] (a subfolder or a list file)",
    "vot": "vot:ROOT[:LIST]",
    "folder": "folder:PATH[:SPLIT][:A-B%] (sequences with frames and groundtruth.txt; a share: 80-100%)",
}
