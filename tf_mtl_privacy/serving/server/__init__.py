"""The check server: TensorFlow Serving's interfaces for machines without it.

Start with `running.CheckServer`. HTTP requests enter through `app` (`rest`, `demo_page`), gRPC
requests through `grpc_service`. Both call `service.Service`, which checks inputs and queues them in
`batching`. `versions` loads and replaces the served `model.Model`.
"""
