//! Writes the client and the server of the service that `src/proto.rs` describes. Needs no `protoc`.

use tonic_build::manual::{Builder, Method, Service};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let method = |name, route, output| {
        Method::builder()
            .name(name)
            .route_name(route)
            .input_type("crate::proto::Question")
            .output_type(output)
            .codec_path("tonic_prost::ProstCodec")
    };
    let llm = Service::builder()
        .package("steadfast.example")
        .name("Llm")
        .method(method("ask", "Ask", "crate::proto::Answer").build())
        .method(method("ask_stream", "AskStream", "crate::proto::Piece").server_streaming().build())
        .build();
    Builder::new().build_transport(false).compile(&[llm]);
}
