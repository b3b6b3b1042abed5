//! `larder.v1.Registries`.

use larder_proto::v1;
use larder_proto::v1::registries_server::Registries;
use tonic::{Request, Response, Status};

use super::status::ApiError;
use crate::config::places::{AuthFile, AuthFormat};
use crate::ops::Ctx;
use crate::ops::login::{self, Secret};

pub(super) struct Service {
    pub(super) ctx: Ctx,
}

#[tonic::async_trait]
impl Registries for Service {
    async fn login(&self, request: Request<v1::LoginRequest>) -> Result<Response<v1::LoginResponse>, Status> {
        let v1::LoginRequest { registry, username, password, auth_file } = request.into_inner();
        let password = Secret::new(password);
        let place = place(auth_file)?;
        let logged_in = login::login(&self.ctx, &registry, &username, &password, place).await;
        let logged_in = logged_in.map_err(ApiError::from)?;
        Ok(Response::new(v1::LoginResponse {
            registry: logged_in.target.to_string(),
            kept_in: logged_in.kept_in,
            unproven: logged_in.unproven,
            warnings: logged_in.warnings,
        }))
    }

    async fn logout(&self, request: Request<v1::LogoutRequest>) -> Result<Response<v1::LogoutResponse>, Status> {
        let v1::LogoutRequest { registry, all, auth_file } = request.into_inner();
        if all && !registry.is_empty() {
            return Err(ApiError::invalid("invalid-argument", "all, or one registry; not both").into());
        }
        let from = (!all).then_some(registry.as_str());
        let logged_out = login::logout(&self.ctx, from, place(auth_file)?).await.map_err(ApiError::from)?;
        Ok(Response::new(v1::LogoutResponse {
            registry: logged_out.target.map(|target| target.to_string()).unwrap_or_default(),
            removed_from: logged_out.removed_from,
            warnings: logged_out.warnings,
        }))
    }

    async fn get_login(&self, request: Request<v1::GetLoginRequest>) -> Result<Response<v1::GetLoginResponse>, Status> {
        let (target, who) = login::who(&self.ctx, &request.into_inner().registry).await.map_err(ApiError::from)?;
        let (username, kept_in) = who.unwrap_or_default();
        Ok(Response::new(v1::GetLoginResponse { registry: target.to_string(), username, kept_in }))
    }
}

fn place(file: Option<v1::AuthFile>) -> Result<Option<AuthFile>, ApiError> {
    let Some(file) = file else { return Ok(None) };
    let format = match file.format() {
        v1::AuthFormat::Podman => AuthFormat::Podman,
        v1::AuthFormat::Docker => AuthFormat::Docker,
        v1::AuthFormat::Unspecified => {
            return Err(ApiError::invalid("invalid-argument", "the format of the file is not said"));
        }
    };
    Ok(Some(AuthFile { path: file.path.into(), format }))
}
