//! `create`: takes the snapshots that are due. All of it is in the crates under `shared/`.

use lambda_runtime::Error;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    snapkeep_aws::function::create().await
}
