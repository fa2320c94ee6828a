// SPDX-License-Identifier: Apache-2.0
#ifndef SSDOPS_PARALLEL_FOR_H_
#define SSDOPS_PARALLEL_FOR_H_

#include <cstdint>

namespace ssdops {

// How a CPU kernel spreads its work: the caller brings the threads.
//
//   parallel_for(count, nanoseconds_per_item,
//                [&](int64_t begin, int64_t end, int worker) { ... });
//
// runs the body on disjoint ranges that cover [0, count), and returns when all
// are done. `worker` is in [0, num_workers()); no two bodies with the same
// worker run at the same time, so it selects a slice of the workspace. The cost
// is a rough estimate by which small work stays on one thread.
class ParallelFor {
 public:
  virtual ~ParallelFor() = default;

  virtual int num_workers() const = 0;

  template <typename Body>
  void operator()(int64_t count, int64_t nanoseconds_per_item,
                  const Body& body) const {
    if (count <= 0) return;
    Run(count, nanoseconds_per_item, &Call<Body>, &body);
  }

 protected:
  // A function pointer and its context: unlike std::function it never
  // allocates.
  using Function = void (*)(const void* context, int64_t begin, int64_t end,
                            int worker);

  virtual void Run(int64_t count, int64_t nanoseconds_per_item,
                   Function function, const void* context) const = 0;

 private:
  template <typename Body>
  static void Call(const void* context, int64_t begin, int64_t end,
                   int worker) {
    (*static_cast<const Body*>(context))(begin, end, worker);
  }
};

// Everything on the calling thread.
class SerialFor final : public ParallelFor {
 public:
  int num_workers() const override { return 1; }

 protected:
  void Run(int64_t count, int64_t, Function function,
           const void* context) const override {
    function(context, 0, count, 0);
  }
};

}  // namespace ssdops

#endif  // SSDOPS_PARALLEL_FOR_H_
