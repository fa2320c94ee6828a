// SPDX-License-Identifier: Apache-2.0

// How XLA compiles the ops: each becomes a call of run_kernel.cc, which runs
// the op kernel that is used outside of XLA too. So there is one kernel, with
// one validation, for both.

#include <algorithm>

#include "xla_prelude.h"

namespace ssdops {
namespace {

using tensorflow::NodeDef;
using tensorflow::OpKernelConstruction;
using tensorflow::OpRegistrationData;
using tensorflow::PartialTensorShape;
using tensorflow::Tensor;
using tensorflow::TensorShape;
using tensorflow::XlaOpKernelContext;
using tensorflow::shape_inference::InferenceContext;

// Two digits per byte: the text goes through XLA's own format.
std::string Hex(const std::string& bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const char byte : bytes) {
    const auto value = static_cast<unsigned char>(byte);
    text += kDigits[value / 16];
    text += kDigits[value % 16];
  }
  return text;
}

class CustomCallOp : public tensorflow::XlaOpKernel {
 public:
  explicit CustomCallOp(OpKernelConstruction* ctx) : XlaOpKernel(ctx) {
    // The op and its attributes, not where the node stands in a graph.
    node_.set_name(ctx->def().op());
    node_.set_op(ctx->def().op());
    for (const auto& [name, value] : ctx->def().attr()) {
      if (!name.empty() && name[0] != '_') {
        (*node_.mutable_attr())[name] = value;
      }
    }
    for (int i = 0; i < ctx->num_inputs(); ++i) {
      node_.add_input("input:" + std::to_string(i));
    }
  }

  void Compile(XlaOpKernelContext* ctx) override {
    std::vector<TensorShape> shapes;
    OP_REQUIRES_OK(ctx, InferOutputs(ctx, &shapes));
    std::vector<xla::Shape> outputs;
    outputs.reserve(shapes.size());
    for (size_t i = 0; i < shapes.size(); ++i) {
      xla::PrimitiveType type;
      OP_REQUIRES_OK(
          ctx, tensorflow::DataTypeToPrimitiveType(
                   ctx->expected_output_dtype(static_cast<int>(i)), &type));
      outputs.push_back(xla::ShapeUtil::MakeShape(type, shapes[i].dim_sizes()));
    }
    std::vector<xla::XlaOp> operands;
    operands.reserve(ctx->num_inputs());
    for (int i = 0; i < ctx->num_inputs(); ++i) {
      operands.push_back(ctx->Input(i));
    }
    std::string node;
    // In one order of the attributes, so that equal nodes are equal texts.
    OP_REQUIRES(ctx, tensorflow::SerializeToStringDeterministic(node_, &node),
                absl::InternalError("the node cannot be written down"));
    const xla::XlaOp call = xla::CustomCall(
        ctx->builder(), "ssdops_run_kernel", operands,
        xla::ShapeUtil::MakeTupleShape(outputs),
        "{node = \"" + Hex(node) + "\"}",
        /*has_side_effect=*/false, /*output_operand_aliasing=*/{},
        /*literal=*/nullptr, xla::CustomCallSchedule::SCHEDULE_NONE,
        xla::CustomCallApiVersion::API_VERSION_TYPED_FFI);
    for (size_t i = 0; i < outputs.size(); ++i) {
      ctx->SetOutput(static_cast<int>(i),
                     xla::GetTupleElement(call, static_cast<int64_t>(i)));
    }
  }

 private:
  // By the shape function of the op, from what is known while compiling.
  absl::Status InferOutputs(XlaOpKernelContext* ctx,
                            std::vector<TensorShape>* shapes) const {
    const OpRegistrationData* op = nullptr;
    TF_RETURN_IF_ERROR(
        tensorflow::OpRegistry::Global()->LookUp(node_.op(), &op));
    std::vector<PartialTensorShape> inputs;
    std::vector<Tensor> constants(ctx->num_inputs());
    std::vector<const Tensor*> values(ctx->num_inputs(), nullptr);
    for (int i = 0; i < ctx->num_inputs(); ++i) {
      const absl::StatusOr<xla::Shape> shape = ctx->InputXlaShape(i);
      if (!shape.ok()) return shape.status();
      if (!shape->is_static()) {
        // No op of ours takes a list: argument i is input i.
        return absl::InvalidArgumentError(absl::StrCat(
            node_.op(), " cannot be compiled for ",
            op->op_def.input_arg(i).name(), " of shape ", shape->ToString(),
            ", whose size depends on values: pad it, or call the op with "
            "implementation=\"reference\""));
      }
      inputs.emplace_back(shape->dimensions());
      // Numbers of rows.
      int64_t value = 0;
      if (ctx->input_type(i) != tensorflow::DT_INT32 ||
          !shape->dimensions().empty() ||
          !ctx->ConstantInputAsIntScalar(i, &value).ok()) {
        continue;
      }
      constants[i] = Tensor(static_cast<int32_t>(value));
      values[i] = &constants[i];
    }
    InferenceContext inference(TF_GRAPH_DEF_VERSION,
                               tensorflow::AttrSlice(node_), op->op_def, inputs,
                               values, {}, {});
    TF_RETURN_IF_ERROR(inference.construction_status());
    TF_RETURN_IF_ERROR(inference.Run(op->shape_inference_fn));
    for (int i = 0; i < inference.num_outputs(); ++i) {
      const auto output = inference.output(i);
      if (!inference.FullyDefined(output)) {
        return absl::InvalidArgumentError(
            node_.op() +
            " has outputs whose size XLA must know while it compiles: give "
            "shapes and numbers of rows as constants");
      }
      TensorShape shape;
      for (int axis = 0; axis < inference.Rank(output); ++axis) {
        TF_RETURN_IF_ERROR(shape.AddDimWithStatus(
            inference.Value(inference.Dim(output, axis))));
      }
      shapes->push_back(shape);
    }
    return absl::OkStatus();
  }

  NodeDef node_;
};

// An op, and its inputs on which sizes of results depend: constants for XLA.
struct CompiledOp {
  const char* name;
  std::vector<const char*> constants;
};

const std::vector<CompiledOp>& CompiledOps() {
  static const auto& ops = *new std::vector<CompiledOp>{
      {"Ssdops>BoxIou", {}},
      {"Ssdops>BoxIouGrad", {}},
      {"Ssdops>MatchAnchors", {}},
      {"Ssdops>AssignTargets", {}},
      {"Ssdops>EncodeBoxes", {}},
      {"Ssdops>EncodeBoxesGrad", {}},
      {"Ssdops>DecodeBoxes", {}},
      {"Ssdops>DecodeBoxesGrad", {}},
      {"Ssdops>MineHardNegatives", {}},
      {"Ssdops>MultiboxLoss", {}},
      {"Ssdops>MultiboxLossGrad", {}},
      {"Ssdops>BatchedNms", {}},
      {"Ssdops>Detect", {}},
      {"Ssdops>Nms", {"max_output_size"}},
      {"Ssdops>CombinedNms", {"max_output_size_per_class", "max_total_size"}}};
  return ops;
}

tensorflow::OpKernel* NewCustomCallOp(OpKernelConstruction* ctx) {
  return new CustomCallOp(ctx);
}

// Whether XLA has made kernels of what was registered for it, which it does
// once, at its first use in the process.
bool XlaHasBeenUsed() {
  // Any op of TensorFlow that XLA compiles would do.
  const tensorflow::KernelList kernels =
      tensorflow::GetRegisteredKernelsForOp("AddV2");
  return std::any_of(kernels.kernel().begin(), kernels.kernel().end(),
                     [](const tensorflow::KernelDef& kernel) {
                       return kernel.device_type() ==
                              tensorflow::DEVICE_CPU_XLA_JIT;
                     });
}

void RegisterAll() {
  const bool too_late = XlaHasBeenUsed();
  for (const CompiledOp& op : CompiledOps()) {
    auto builder = tensorflow::XlaOpRegistrationBuilder::Name(op.name);
    builder.Device(tensorflow::DEVICE_CPU_XLA_JIT);
    for (const char* input : op.constants) {
      builder.CompileTimeConstantInput(input);
    }
    tensorflow::XlaOpRegistrar(builder.Build(NewCustomCallOp));
    if (!too_late) continue;
    tensorflow::kernel_factory::OpKernelRegistrar(
        tensorflow::KernelDefBuilder(op.name)
            .Device(tensorflow::DEVICE_CPU_XLA_JIT)
            .Build(),
        "CustomCallOp", NewCustomCallOp);
  }
}

// While the library is loaded.
[[maybe_unused]] const bool registered = [] {
  RegisterAll();
  return true;
}();

}  // namespace
}  // namespace ssdops
