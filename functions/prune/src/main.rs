//! `prune`: deletes the snapshots past retention. All of it is in the crates under `shared/`.

use lambda_runtime::Error;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    snapkeep_aws::function::prune().await
}
