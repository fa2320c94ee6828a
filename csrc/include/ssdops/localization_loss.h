// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_LOCALIZATION_LOSS_H_
#define SSDOPS_LOCALIZATION_LOSS_H_

// The localization loss of one positive, its gradient, and by what the losses
// of a batch are divided; shared by every kernel on every device.

#include "ssdops/box_coding.h"
#include "ssdops/iou_kinds.h"
#include "ssdops/multibox_loss.h"

namespace ssdops {

template <typename T>
struct BoxFromOffsets {
  Box<T> box;
  Extent<T> y, x;
};

template <typename S>
class Localization {
  using T = ComputeType<S>;

 public:
  SSDOPS_HOST_DEVICE explicit Localization(const MultiboxLossOptions& options)
      : kind_(options.localization) {
    for (int k = 0; k < 4; ++k) {
      variances_[k] = static_cast<T>(options.variances[k]);
    }
  }

  SSDOPS_HOST_DEVICE double Loss(const S* offsets, const S* targets,
                                 const S* anchor) const {
    switch (kind_) {
      case LocalizationLoss::kSmoothL1:
      case LocalizationLoss::kL2: {
        double sum = 0;
        for (int k = 0; k < 4; ++k) {
          const double d = double{Widen(offsets[k])} - Widen(targets[k]);
          const double distance = d < 0 ? -d : d;
          sum += kind_ == LocalizationLoss::kL2 || distance < 1
                     ? 0.5 * d * d
                     : distance - 0.5;
        }
        return sum;
      }
      case LocalizationLoss::kGiou:
        return IouLoss<IouKind::kGiou>(offsets, targets, anchor);
      case LocalizationLoss::kDiou:
        return IouLoss<IouKind::kDiou>(offsets, targets, anchor);
      default:
        return IouLoss<IouKind::kCiou>(offsets, targets, anchor);
    }
  }

  SSDOPS_HOST_DEVICE void Grad(const S* offsets, const S* targets,
                               const S* anchor, T scale, S* grad) const {
    switch (kind_) {
      case LocalizationLoss::kSmoothL1:
      case LocalizationLoss::kL2:
        for (int k = 0; k < 4; ++k) {
          T d = Widen(offsets[k]) - Widen(targets[k]);
          if (kind_ == LocalizationLoss::kSmoothL1) {
            d = d > T(1) ? T(1) : d < T(-1) ? T(-1) : d;
          }
          grad[k] = Narrow<S>(d * scale);
        }
        return;
      case LocalizationLoss::kGiou:
        return IouLossGrad<IouKind::kGiou>(offsets, targets, anchor, scale,
                                           grad);
      case LocalizationLoss::kDiou:
        return IouLossGrad<IouKind::kDiou>(offsets, targets, anchor, scale,
                                           grad);
      default:
        return IouLossGrad<IouKind::kCiou>(offsets, targets, anchor, scale,
                                           grad);
    }
  }

 private:
  SSDOPS_HOST_DEVICE BoxFromOffsets<T> Decode(const S* offsets,
                                              const Box<T>& anchor) const {
    const Extent<T> y = DecodeExtent(Widen(offsets[0]), Widen(offsets[2]),
                                     MakeExtent(anchor.ymin, anchor.ymax),
                                     variances_[0], variances_[2]);
    const Extent<T> x = DecodeExtent(Widen(offsets[1]), Widen(offsets[3]),
                                     MakeExtent(anchor.xmin, anchor.xmax),
                                     variances_[1], variances_[3]);
    const T half_y = y.size * T(0.5), half_x = x.size * T(0.5);
    return {{Saturate(y.centre - half_y), Saturate(x.centre - half_x),
             Saturate(y.centre + half_y), Saturate(x.centre + half_x)},
            y,
            x};
  }

  template <IouKind kind>
  SSDOPS_HOST_DEVICE double IouLoss(const S* offsets, const S* targets,
                                    const S* anchor) const {
    const Box<T> place = LoadWideBox(anchor);
    const Box<T> box = Decode(offsets, place).box;
    const Box<T> wanted = Decode(targets, place).box;
    return 1.0 - IouOfKind<kind>(box, Area(box), wanted, Area(wanted));
  }

  template <IouKind kind>
  SSDOPS_HOST_DEVICE void IouLossGrad(const S* offsets, const S* targets,
                                      const S* anchor, T scale, S* grad) const {
    const Box<T> place = LoadWideBox(anchor);
    const BoxFromOffsets<T> decoded = Decode(offsets, place);
    const Box<T> wanted = Decode(targets, place).box;
    Box<T> by_box, by_wanted;
    IouOfKindGrad<kind>(decoded.box, wanted, -scale, &by_box, &by_wanted);
    DecodeGrad(by_box.ymin, by_box.ymax, decoded.y, Widen(offsets[0]),
               MakeExtent(place.ymin, place.ymax), variances_[0], variances_[2],
               &grad[0], &grad[2]);
    DecodeGrad(by_box.xmin, by_box.xmax, decoded.x, Widen(offsets[1]),
               MakeExtent(place.xmin, place.xmax), variances_[1], variances_[3],
               &grad[1], &grad[3]);
  }

  // Along one axis, from the two corners to the two offsets; 0 where decoding
  // limits a value.
  SSDOPS_HOST_DEVICE static void DecodeGrad(T by_low, T by_high,
                                            const Extent<T>& decoded, T shift,
                                            const Extent<T>& anchor,
                                            T centre_variance, T size_variance,
                                            S* by_shift, S* by_stretch) {
    constexpr T kMax = std::numeric_limits<T>::max();
    const auto is_inside = [](T x) { return x < kMax && x > -kMax; };
    const T half = decoded.size * T(0.5);
    if (!is_inside(decoded.centre - half)) by_low = 0;
    if (!is_inside(decoded.centre + half)) by_high = 0;
    const bool moves =
        is_inside(shift * centre_variance) && is_inside(decoded.centre);
    const bool grows = is_inside(decoded.size);
    *by_shift = Narrow<S>(
        moves ? (by_low + by_high) * anchor.size * centre_variance : T(0));
    *by_stretch =
        Narrow<S>(grows ? (by_high - by_low) * half * size_variance : T(0));
  }

  LocalizationLoss kind_;
  T variances_[4];
};

SSDOPS_HOST_DEVICE inline double Normalizer(const MultiboxLossOptions& options,
                                            double num_positives) {
  const double n = options.has_normalizer ? options.normalizer : num_positives;
  return n <= 1 ? 1 : n;  // a NaN stays
}

// Without a positive and without a normalizer nothing counts.
SSDOPS_HOST_DEVICE inline bool HasLoss(const MultiboxLossOptions& options,
                                       double num_positives) {
  return options.has_normalizer || num_positives > 0;
}

}  // namespace ssdops

#endif  // SSDOPS_LOCALIZATION_LOSS_H_
