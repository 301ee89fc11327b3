"""What to cite for each number, as BibTeX."""

from __future__ import annotations

import difflib

from spherometer import _checks
from spherometer.errors import InputError

_WANG_ISOLA = """@inproceedings{wang2020understanding,
  title     = {Understanding Contrastive Representation Learning through Alignment and
               Uniformity on the Hypersphere},
  author    = {Wang, Tongzhou and Isola, Phillip},
  booktitle = {International Conference on Machine Learning},
  pages     = {9929--9939},
  year      = {2020}
}"""
_COHN_KUMAR = """@article{cohn2007universally,
  title   = {Universally optimal distribution of points on spheres},
  author  = {Cohn, Henry and Kumar, Abhinav},
  journal = {Journal of the American Mathematical Society},
  volume  = {20},
  number  = {1},
  pages   = {99--148},
  year    = {2007}
}"""
_RANKME = """@inproceedings{garrido2023rankme,
  title     = {{RankMe}: Assessing the Downstream Performance of Pretrained Self-Supervised
               Representations by Their Rank},
  author    = {Garrido, Quentin and Balestriero, Randall and Najman, Laurent and LeCun, Yann},
  booktitle = {International Conference on Machine Learning},
  year      = {2023}
}"""
_ROY = """@inproceedings{roy2007effective,
  title     = {The effective rank: A measure of effective dimensionality},
  author    = {Roy, Olivier and Vetterli, Martin},
  booktitle = {European Signal Processing Conference},
  pages     = {606--610},
  year      = {2007}
}"""
_ALPHA_REQ = """@inproceedings{agrawal2022alphareq,
  title     = {{$\\alpha$-ReQ}: Assessing Representation Quality in Self-Supervised Learning
               by measuring eigenspectrum decay},
  author    = {Agrawal, Kumar K. and Mondal, Arnab Kumar and Ghosh, Arna and Richards, Blake},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2022}
}"""
_LIDAR = """@inproceedings{thilak2024lidar,
  title     = {{LiDAR}: Sensing Linear Probing Performance in Joint Embedding {SSL} Architectures},
  author    = {Thilak, Vimal and Huang, Chen and Saremi, Omid and Dinh, Laurent and Goh, Hanlin and
               Nakkiran, Preetum and Susskind, Joshua M. and Littwin, Etai},
  booktitle = {International Conference on Learning Representations},
  year      = {2024}
}"""
_ISOSCORE = """@inproceedings{rudman2022isoscore,
  title     = {{IsoScore}: Measuring the Uniformity of Embedding Space Utilization},
  author    = {Rudman, William and Gillman, Nate and Rayne, Taylor and Eickhoff, Carsten},
  booktitle = {Findings of the Association for Computational Linguistics: {ACL} 2022},
  year      = {2022}
}"""
_GAO = """@article{gao2017theory,
  title   = {A theory of multineuronal dimensionality, dynamics and measurement},
  author  = {Gao, Peiran and Trautmann, Eric and Yu, Byron and
             Santhanam, Gopal and Ryu, Stephen and Shenoy, Krishna and Ganguli, Surya},
  journal = {bioRxiv},
  year    = {2017}
}"""
_FANG = """@inproceedings{fang2024rethinking,
  title     = {Rethinking the Uniformity Metric in Self-Supervised Learning},
  author    = {Fang, Xianghong and Li, Jian and Sun, Qiang and Wang, Benyou},
  booktitle = {International Conference on Learning Representations},
  year      = {2024}
}"""
_WANG_LIU = """@inproceedings{wang2021understanding,
  title     = {Understanding the Behaviour of Contrastive Loss},
  author    = {Wang, Feng and Liu, Huaping},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  pages     = {2495--2504},
  year      = {2021}
}"""
_INFO_NCE = """@article{oord2018representation,
  title   = {Representation Learning with Contrastive Predictive Coding},
  author  = {van den Oord, Aaron and Li, Yazhe and Vinyals, Oriol},
  journal = {arXiv preprint arXiv:1807.03748},
  year    = {2018}
}"""
_SIMCLR = """@inproceedings{chen2020simple,
  title     = {A Simple Framework for Contrastive Learning of Visual Representations},
  author    = {Chen, Ting and Kornblith, Simon and Norouzi, Mohammad and Hinton, Geoffrey},
  booktitle = {International Conference on Machine Learning},
  pages     = {1597--1607},
  year      = {2020}
}"""
_KHOSLA = """@inproceedings{khosla2020supervised,
  title     = {Supervised Contrastive Learning},
  author    = {Khosla, Prannay and Teterwak, Piotr and Wang, Chen and Sarna, Aaron and Tian, Yonglong and
               Isola, Phillip and Maschinot, Aaron and Liu, Ce and Krishnan, Dilip},
  booktitle = {Advances in Neural Information Processing Systems},
  volume    = {33},
  year      = {2020}
}"""
_DUFUMIER = """@inproceedings{dufumier2023integrating,
  title     = {Integrating Prior Knowledge in Contrastive Learning with Kernel},
  author    = {Dufumier, Benoit and Barbano, Carlo Alberto and Louiset, Robin and Duchesnay, Edouard and
               Gori, Pietro},
  booktitle = {International Conference on Machine Learning},
  year      = {2023}
}"""
_LIU = """@inproceedings{liu2018learning,
  title     = {Learning towards Minimum Hyperspherical Energy},
  author    = {Liu, Weiyang and Lin, Rongmei and Liu, Zhen and Liu, Lixin and Yu, Zhiding and Dai, Bo and
               Song, Le},
  booktitle = {Advances in Neural Information Processing Systems},
  volume    = {31},
  year      = {2018}
}"""
_MOCO = """@inproceedings{he2020momentum,
  title     = {Momentum Contrast for Unsupervised Visual Representation Learning},
  author    = {He, Kaiming and Fan, Haoqi and Wu, Yuxin and Xie, Saining and Girshick, Ross},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year      = {2020}
}"""
_DENSE_CL = """@inproceedings{wang2021dense,
  title     = {Dense Contrastive Learning for Self-Supervised Visual Pre-Training},
  author    = {Wang, Xinlong and Zhang, Rufeng and Shen, Chunhua and Kong, Tao and Li, Lei},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  pages     = {3024--3033},
  year      = {2021}
}"""
_CONDITIONAL = """@article{dufumier2021conditional,
  title   = {Conditional Alignment and Uniformity for Contrastive Learning with Continuous Proxy Labels},
  author  = {Dufumier, Benoit and Gori, Pietro and Victor, Julie and Grigis, Antoine and
             Duchesnay, Edouard},
  journal = {arXiv preprint arXiv:2111.05643},
  year    = {2021}
}"""
_Y_AWARE = """@inproceedings{dufumier2021contrastive,
  title     = {Contrastive Learning with Continuous Proxy Meta-data for {3D} {MRI} Classification},
  author    = {Dufumier, Benoit and Gori, Pietro and Victor, Julie and Grigis, Antoine and
               Wessa, Michele and Brambilla, Paolo and Favre, Pauline and Polosan, Mircea and
               McDonald, Colm and Piguet, Camille Marie and Phillips, Mary and Eyler, Lisa and
               Duchesnay, Edouard},
  booktitle = {Medical Image Computing and Computer Assisted Intervention},
  pages     = {58--68},
  year      = {2021}
}"""
_ZHANG = """@inproceedings{zhang2024contrastive,
  title     = {How Does Contrastive Learning Organize Images?},
  author    = {Zhang, Yunzhe and Lu, Yao and Xuan, Qi},
  booktitle = {IEEE/CVF Winter Conference on Applications of Computer Vision Workshops},
  pages     = {497--506},
  year      = {2024}
}"""
_NEWMAN = """@article{newman2004finding,
  title   = {Finding and evaluating community structure in networks},
  author  = {Newman, Mark E. J. and Girvan, Michelle},
  journal = {Physical Review E},
  volume  = {69},
  number  = {2},
  pages   = {026113},
  year    = {2004}
}"""
_RADOVANOVIC = """@article{radovanovic2010hubs,
  title   = {Hubs in Space: Popular Nearest Neighbors in High-Dimensional Data},
  author  = {Radovanovi{\\'c}, Milo{\\v{s}} and Nanopoulos, Alexandros and Ivanovi{\\'c}, Mirjana},
  journal = {Journal of Machine Learning Research},
  volume  = {11},
  pages   = {2487--2531},
  year    = {2010}
}"""
_CALINSKI_HARABASZ = """@article{calinski1974dendrite,
  title   = {A dendrite method for cluster analysis},
  author  = {Cali{\\'n}ski, Tadeusz and Harabasz, Jerzy},
  journal = {Communications in Statistics},
  volume  = {3},
  number  = {1},
  pages   = {1--27},
  year    = {1974}
}"""
_OURS = """@software{spherometer,
  title  = {Spherometer},
  author = {{The Spherometer developers}},
  note   = {This quantity is defined by the package, not by a paper}
}"""

_SOURCES = {
    "alignment": _WANG_ISOLA,
    "alignment_samples": _WANG_ISOLA,
    "sharded_uniformity": _WANG_ISOLA,
    "uniformity": _WANG_ISOLA,
    "uniformity_samples": _WANG_ISOLA,
    "cross_uniformity": _OURS,
    "expected_uniformity": _WANG_ISOLA,
    "minimum_uniformity": _COHN_KUMAR,
    "normalized_uniformity": _WANG_ISOLA,
    "hyperspherical_energy": _LIU,
    "rankme": _RANKME,
    "effective_rank": _ROY,
    "participation_ratio": _GAO,
    "alpha_req": _ALPHA_REQ,
    "isoscore": _ISOSCORE,
    "lidar": _LIDAR,
    "wasserstein_uniformity": _FANG,
    "neighbor_purity": _OURS,
    "tolerance": _WANG_LIU,
    "hubness": _RADOVANOVIC,
    "calinski_harabasz": _CALINSKI_HARABASZ,
    "relative_local_density": _ZHANG,
    "graph_modularity": _NEWMAN,
    "conditional_alignment": _CONDITIONAL,
    "conditional_uniformity": _CONDITIONAL,
    "dense_alignment": _OURS,
    "dense_alignment_samples": _OURS,
    "dense_uniformity": _OURS,
    "dense_uniformity_samples": _OURS,
    "performance_relation": _OURS,
    "align_loss": _WANG_ISOLA,
    "uniform_loss": _WANG_ISOLA,
    "align_uniform_loss": _WANG_ISOLA,
    "AlignUniformLoss": _WANG_ISOLA,
    "info_nce_loss": _INFO_NCE,
    "InfoNCELoss": _INFO_NCE,
    "nt_xent_loss": _SIMCLR,
    "NTXentLoss": _SIMCLR,
    "sup_con_loss": _KHOSLA,
    "SupConLoss": _KHOSLA,
    "decoupled_uniformity_loss": _DUFUMIER,
    "DecoupledUniformityLoss": _DUFUMIER,
    "hyperspherical_energy_loss": _LIU,
    "HypersphericalEnergyLoss": _LIU,
    "y_aware_info_nce_loss": _Y_AWARE,
    "YAwareInfoNCELoss": _Y_AWARE,
    "conditional_align_uniform_loss": _CONDITIONAL,
    "ConditionalAlignUniformLoss": _CONDITIONAL,
    "DenseAlignUniformLoss": _OURS,
    "DenseInfoNCELoss": _DENSE_CL,
    "CombinedLoss": _OURS,
    "MemoryQueue": _MOCO,
    "spherometer": _OURS,
}


def citation(name: str) -> str:
    """Give the BibTeX entry of the paper that defines a metric or a loss.

    Args:
        name: a public name, for instance "uniformity" or "InfoNCELoss".

    Returns:
        One BibTeX entry.

    Raises:
        InputError: no such name; the message gives the nearest one.

    Example:
        >>> print(citation("rankme").splitlines()[0])
        @inproceedings{garrido2023rankme,
    """
    if not isinstance(name, str) or name not in _SOURCES:
        nearest = difflib.get_close_matches(str(name), _SOURCES, n=1, cutoff=0.0)[0]
        _checks.refuse(
            InputError,
            "citation",
            "name",
            "be a metric or a loss of this package",
            "only those have a source here",
            repr(name)[:80],
            f"Did you mean {nearest!r}",
        )
    return _SOURCES[name]
